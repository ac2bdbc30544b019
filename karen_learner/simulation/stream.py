"""Gold texts of the bootstrap and texts of each cycle, in seeded order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

from karen_learner.curation.examples import stratum
from karen_learner.records import LabelledText
from karen_learner.simulation.scenario import Scenario

T = TypeVar("T")

DEFAULT_CYCLES = 10


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
