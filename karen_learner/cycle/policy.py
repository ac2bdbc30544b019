"""Which mode a cycle has, and whether there is enough to train on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from karen_learner.errors import InvalidInput
from karen_learner.records import CycleMode, CycleRow, ModelVersion

RequestedMode = Literal["auto", "incremental", "full"]

QUARANTINE_AFTER = 2
"""Rejections for harm after which an example is quarantined."""


def check_mode(mode: str) -> None:
    """Raise InvalidInput for a mode that does not exist."""
    if mode not in get_args(RequestedMode):
        raise InvalidInput(f"there is no mode {mode!r} of learning: {', '.join(get_args(RequestedMode))}")


def resolve_mode(
    mode: RequestedMode,
    champion: ModelVersion | None,
    *,
    examples: int,
    last_full: int | None,
    growth: float,
    most: int,
) -> CycleMode:
    """The mode of a cycle that was asked for `mode`.

    Without a champion there is nothing to continue from. `auto` continues, and starts anew once the
    curated `examples` are `growth` times those of the last full training: what incremental cycles
    lose against a training from scratch is made good, and because the sizes form a geometric series,
    all full trainings together cost no more than a few times the last one. Never above `most`
    examples: there a full training would leave some out.
    """
    if champion is None or mode == "full":
        return "full"
    grown = growth > 0 and last_full is not None and growth * last_full <= examples <= most
    return "full" if mode == "auto" and grown else "incremental"


def last_full_training(rows: Sequence[CycleRow]) -> int | None:
    """The number of examples in the newest full training among `rows` (newest first), whatever came of
    it; None without one: it is long ago, and `auto` stays incremental."""
    for row in rows:
        result = row.result
        if row.mode == "full" and result is not None and result.validation is not None:
            return result.training_examples + result.replay_examples
    return None


def why_not(new: int, learned: int, mode: CycleMode, minimum: int, force: bool) -> str | None:
    """Why a cycle with this many examples would not train; None if it would."""
    if new + learned == 0:
        return "nothing has been curated yet: bootstrap the tenant with labelled texts, or collect feedback"
    if mode == "full" and force:
        return None
    if new == 0:
        return "there is nothing new to learn"
    if new < minimum and not force:
        return (
            f"{new} new examples, and learning.min_data_threshold is {minimum}: "
            "collect more, or force the cycle"
        )
    return None
