"""Topics: the detected intents of the newest turns with their volume, corrections and growth. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from karen_learner.metrics import Z_95, wilson
from karen_learner.monitoring.readings.recent import TurnFacts
from karen_learner.records.base import Record, Score


class Topic(Record):
    """An intent; None for turns without one.

    `wrong` of the `judged` turns were corrected to another label or badly answered, with a 95 % interval.
    `growth` is the share of the newer half less that of the older half, with its 95 % interval.
    """

    intent: str | None
    turns: int
    share: Score
    confidence: Score
    judged: int
    wrong: int
    wrong_low: Score | None = None
    wrong_high: Score | None = None
    growth: float
    growth_error: float

    @property
    def wrong_share(self) -> float | None:
        """The share of wrong answers among the judged ones; None without any."""
        return self.wrong / self.judged if self.judged else None

    @property
    def grows(self) -> bool:
        """Whether the whole interval of the growth is above zero."""
        return self.growth > self.growth_error

    @property
    def shrinks(self) -> bool:
        """Whether the whole interval of the growth is below zero."""
        return self.growth < -self.growth_error


def topics_of(turns: Sequence[TurnFacts]) -> list[Topic]:
    """The topics, the most frequent first."""
    ordered = sorted(turns, key=lambda one: one.at)
    middle = len(ordered) // 2
    halves: dict[str | None, tuple[list[TurnFacts], list[TurnFacts]]] = defaultdict(lambda: ([], []))
    for number, one in enumerate(ordered):
        halves[one.intent][number >= middle].append(one)
    sizes = (middle, len(ordered) - middle)
    found = [_topic(intent, older, newer, sizes) for intent, (older, newer) in halves.items()]
    return sorted(found, key=lambda one: (-one.turns, one.intent or ""))


def _topic(
    intent: str | None, older: Sequence[TurnFacts], newer: Sequence[TurnFacts], sizes: tuple[int, int]
) -> Topic:
    both = [*older, *newer]
    judged = [one.score for one in both if one.score is not None]
    wrong = sum(score < 1.0 for score in judged)
    low, high = wilson(wrong, len(judged)) if judged else (None, None)
    before, after = len(older) / max(1, sizes[0]), len(newer) / max(1, sizes[1])
    variance = before * (1 - before) / max(1, sizes[0]) + after * (1 - after) / max(1, sizes[1])
    return Topic(
        intent=intent,
        turns=len(both),
        share=len(both) / sum(sizes),
        confidence=sum(one.confidence for one in both) / len(both),
        judged=len(judged),
        wrong=wrong,
        wrong_low=low,
        wrong_high=high,
        growth=after - before,
        growth_error=Z_95 * variance**0.5,
    )
