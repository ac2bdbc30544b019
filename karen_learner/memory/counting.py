"""What each row adds to the tenant's counters. Pure functions.

Every change of a row goes through `change`, so a counter is always the sum of these functions over
the rows: it cannot drift.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from karen_learner.records import CycleRow, Example, ExampleState, LearningCycleResult, Split, Task, Turn

Counts = dict[tuple[str, str], float]
"""Amounts by the family and the name of a counter."""

TurnKind = tuple[bool, bool, bool, bool]
"""Whether a turn has feedback, has a correction, awaits curation, and was analysed by the fallback."""

TURNS = "turns"
EXAMPLES = "examples"
SETS = "sets"
CYCLES = "cycles"
TALLIES = "tallies"


def stratum_family(state: ExampleState, split: Split) -> str:
    return f"strata/{state}/{split}"


def label_family(task: Task) -> str:
    """Examples by label."""
    return f"labels/{task}"


def gold_family(task: Task) -> str:
    """Gold examples by label: what they taught is the schema."""
    return f"gold/{task}"


def declared_family(task: Task) -> str:
    """Labels that were declared without an example."""
    return f"declared/{task}"


def change(old: Counts, new: Counts) -> Counts:
    """What must be added to the counters when a row's part of them goes from `old` to `new`."""
    names = old.keys() | new.keys()
    amounts = {name: new.get(name, 0) - old.get(name, 0) for name in names}
    return {name: amount for name, amount in amounts.items() if amount}


def total(parts: Iterable[Counts]) -> Counts:
    """The sum of several changes."""
    sums: defaultdict[tuple[str, str], float] = defaultdict(float)
    for part in parts:
        for name, amount in part.items():
            sums[name] += amount
    return {name: amount for name, amount in sums.items() if amount}


def turn_kind(turn: Turn, *, awaiting: bool) -> TurnKind:
    """All that matters about a stored turn for counting it."""
    feedback = turn.feedback
    return (
        feedback is not None,
        feedback is not None and feedback.is_correction,
        awaiting,
        turn.metadata.degraded,
    )


def kind_counts(kind: TurnKind, times: int = 1) -> Counts:
    """What `times` stored turns of a kind add."""
    names = ("with_feedback", "corrections", "awaiting_curation", "degraded")
    counts: Counts = {(TURNS, name): times for name, applies in zip(names, kind, strict=True) if applies}
    return {(TURNS, "turns"): times, **counts}


def example_counts(example: Example | None) -> Counts:
    """What one stored example adds; nothing where there is none yet."""
    if example is None:
        return {}
    counts: Counts = {
        (EXAMPLES, example.state): 1,
        (stratum_family(example.state, example.split), example.stratum): 1,
    }
    if example.state == "pending" and example.split == "train":
        counts[SETS, "pending_train"] = 1
    if example.state in ("pending", "learned") and example.split == "holdout":
        counts[SETS, "holdout"] = 1
    if example.state != "quarantined":
        counts.update((name, 1) for name in _labels(example))
    return counts


def cycle_counts(row: CycleRow) -> Counts:
    """What one line of the journal adds."""
    counts: Counts = {(CYCLES, "cycles"): 1}
    if row.result is not None:
        counts.update(((TALLIES, name), amount) for name, amount in _tally(row.result))
    return counts


def _tally(result: LearningCycleResult) -> Iterator[tuple[str, float]]:
    yield "total", 1
    yield result.status, 1
    if result.model_improved:
        yield "improved", 1
    if "training" in result.stage_seconds:
        yield "trained", 1
        yield "training_seconds", result.stage_seconds["training"]


def _labels(example: Example) -> Iterator[tuple[str, str]]:
    for task, label in _carried(example):
        yield label_family(task), label
        if example.is_gold:
            yield gold_family(task), label


def _carried(example: Example) -> set[tuple[Task, str]]:
    carried: set[tuple[Task, str]] = {("entities", span.label) for span in example.entities or ()}
    if example.intent is not None:
        carried.add(("intent", example.intent))
    if example.sentiment is not None:
        carried.add(("sentiment", example.sentiment))
    return carried
