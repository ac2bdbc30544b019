"""Simulated users and their feedback. Pure and seeded.

The random numbers of a turn depend on the seed and its position alone, not on the order of answers.
"""

from __future__ import annotations

import random
import re
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from karen_learner.records import EntitySpan, LabelledText, Record, Task
from karen_learner.simulation.scenario import FeedbackRates

GOOD_RATINGS = (0.8, 0.9, 1.0)
BAD_RATINGS = (0.0, 0.1, 0.2)
_WORD = re.compile(r"\w+")

Labels = Mapping[Task, Sequence[str]]
Feedback = dict[str, Any]
"""Keyword mapping for `collect_conversation_metadata` and `add_feedback`."""


class Answer(Record):
    """The analysis as a user sees it: entities are texts with labels."""

    intent: str | None = None
    sentiment: str | None = None
    entities: tuple[tuple[str, str], ...] = ()


def wrong_tasks(gold: LabelledText, answer: Answer) -> tuple[Task, ...]:
    """Tasks whose answer differs from a known gold label."""
    right: dict[Task, bool] = {
        "intent": gold.intent == answer.intent,
        "sentiment": gold.sentiment == answer.sentiment,
        "entities": _words_of(gold) == sorted(answer.entities),
    }
    return tuple(task for task in gold.tasks if not right[task])


def _words_of(gold: LabelledText) -> list[tuple[str, str]]:
    return sorted((gold.text[span.start : span.end], span.label) for span in gold.entities or ())


def correction(gold: LabelledText, tasks: Sequence[Task]) -> Feedback:
    """A correction with the labels of these tasks."""
    labels = gold.to_dict()
    return {f"corrected_{task}": labels[task] for task in tasks}


def relabelled(gold: LabelledText, new_label: Callable[[Task, str], str]) -> LabelledText:
    """The same text with a new label for each known label."""
    return gold.model_copy(
        update={
            "intent": None if gold.intent is None else new_label("intent", gold.intent),
            "sentiment": None if gold.sentiment is None else new_label("sentiment", gold.sentiment),
            "entities": None if gold.entities is None else tuple(
                span.model_copy(update={"label": new_label("entities", span.label)})
                for span in gold.entities
            ),
        }
    )  # fmt: skip


def with_wrong_labels(gold: LabelledText, labels: Labels, rng: random.Random) -> LabelledText:
    """The same text with another label for each task, where another label exists.

    A text without entities gets one on its first word.
    """

    def other(task: Task, label: str) -> str:
        others = [other for other in labels.get(task, ()) if other != label]
        return rng.choice(others) if others else label

    wrong = relabelled(gold, other)
    word, names = _WORD.search(gold.text), labels.get("entities")
    if gold.entities != () or word is None or not names:
        return wrong
    span = EntitySpan(start=word.start(), end=word.end(), label=rng.choice(names))
    return wrong.model_copy(update={"entities": (span,)})


class SimulatedUsers:
    """Users of unequal activity: the user of rank k sends a share in proportion to 1 / k (Zipf, 1949).

    `labels`: source of the labels of wrong corrections.
    """

    def __init__(self, *, users: int, rates: FeedbackRates, labels: Labels, seed: int) -> None:
        self._rates = rates
        self._labels = labels
        self._seed = seed
        self._activity = list(accumulate(1 / rank for rank in range(1, users + 1)))

    def user_id(self, position: int) -> str:
        """The user of the turn at this position."""
        drawn = self._numbers("speaker", position).random() * self._activity[-1]
        return f"user-{bisect(self._activity, drawn) + 1:03d}"

    def react(self, position: int, gold: LabelledText, answer: Answer) -> Feedback | None:
        """The feedback on an answer; None without feedback."""
        rng = self._numbers("reaction", position)
        corrects, wrong_correction, gives_rating, wrong_rating = (rng.random() for _ in range(4))
        rates, wrong = self._rates, wrong_tasks(gold, answer)
        feedback: Feedback = {}
        if corrects < rates.correction_rate:
            feedback |= self._correct(gold, wrong, wrong_correction < rates.noise, rng)
        if gives_rating < rates.rating_rate:
            feedback |= rating(good=(not wrong) != (wrong_rating < rates.noise), rng=rng)
        return feedback or None

    def _correct(
        self, gold: LabelledText, wrong: tuple[Task, ...], is_wrong: bool, rng: random.Random
    ) -> Feedback:
        """A correction of the wrong tasks; a wrong correction may change right labels."""
        if not is_wrong:
            return correction(gold, wrong)
        tasks = wrong or ((rng.choice(gold.tasks),) if gold.tasks else ())
        false = with_wrong_labels(gold, self._labels, rng)
        return correction(false, [task for task in tasks if getattr(false, task) != getattr(gold, task)])

    def _numbers(self, what: str, position: int) -> random.Random:
        return random.Random(f"{self._seed}/{what}/{position}")  # noqa: S311 - a simulation, no secret


def rating(*, good: bool, rng: random.Random) -> Feedback:
    """A good or a poor rating."""
    values = GOOD_RATINGS if good else BAD_RATINGS
    return {"satisfaction_score": rng.choice(values), "response_quality": rng.choice(values)}
