"""Scenario of a simulation, and its seeded order of texts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

from pydantic import Field, model_validator

from karen_learner.cycle import RequestedMode
from karen_learner.records import LabelledText, Record, Score
from karen_learner.resolution import stratum

T = TypeVar("T")

DEFAULT_CYCLES = 10


class FeedbackRates(Record):
    """Shares of turns with feedback.

    `correction_rate`: wrong answers with a correction. `rating_rate`: answers with a rating, good for right
    and poor for wrong ones. `noise`: corrections with a wrong label and inverted ratings. A share of
    `correction_rate * noise` of the right answers gets a wrong correction.
    """

    correction_rate: Score = 0.3
    rating_rate: Score = 0.3
    noise: Score = 0.0


class Scenario(Record):
    """One run. `cycles`: number of equal cycles; `every`: turns per cycle; `limit`: maximum number of turns.

    `shots`: gold texts of each stratum in the bootstrap. `users`: number of users, with Zipf activity.
    """

    shots: int = Field(default=10, ge=2)
    rates: FeedbackRates = FeedbackRates()
    users: int = Field(default=50, ge=1)
    cycles: int | None = Field(default=None, ge=1)
    every: int | None = Field(default=None, ge=1)
    limit: int | None = Field(default=None, ge=1)
    mode: RequestedMode = "auto"
    seed: int = 0

    @model_validator(mode="after")
    def _cycles_or_every(self) -> Scenario:
        if self.cycles is not None and self.every is not None:
            raise ValueError("cycles and every exclude each other: give one")
        return self


class StreamPlan(NamedTuple):
    """The gold texts of the bootstrap, and the texts before each cycle."""

    gold: tuple[LabelledText, ...]
    cycles: tuple[tuple[LabelledText, ...], ...]


def plan_stream(train: Sequence[LabelledText], scenario: Scenario) -> StreamPlan:
    """Draw the gold texts, shuffle the others, and cut them into cycles. Seeded."""
    gold, rest = draw_shots(train, scenario.shots, random.Random(f"{scenario.seed}/order"))  # noqa: S311
    turns = rest[: scenario.limit]
    if scenario.every is not None:
        return StreamPlan(tuple(gold), cut_every(turns, scenario.every))
    return StreamPlan(tuple(gold), cut_evenly(turns, scenario.cycles or DEFAULT_CYCLES))


def draw_shots(
    train: Sequence[LabelledText], shots: int, rng: random.Random
) -> tuple[list[LabelledText], list[LabelledText]]:
    """Up to `shots` texts of each stratum, and the others, in one random order."""
    order = list(train)
    rng.shuffle(order)
    taken: Counter[str] = Counter()
    gold: list[LabelledText] = []
    rest: list[LabelledText] = []
    for example in order:
        name = stratum(example)
        (gold if taken[name] < shots else rest).append(example)
        taken[name] += 1
    return gold, rest


def cut_every(items: Sequence[T], size: int) -> tuple[tuple[T, ...], ...]:
    """Pieces of `size`; the last one may be shorter."""
    return tuple(tuple(items[start : start + size]) for start in range(0, len(items), size))


def cut_evenly(items: Sequence[T], pieces: int) -> tuple[tuple[T, ...], ...]:
    """`pieces` pieces of sizes that differ by at most one; none is empty."""
    pieces = max(1, min(pieces, len(items)))
    edges = [len(items) * piece // pieces for piece in range(pieces + 1)]
    return tuple(tuple(items[start:end]) for start, end in pairwise(edges) if start < end)
