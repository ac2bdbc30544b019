"""The mode of a requested cycle: incremental first, full if the quality has fallen far or increments fail."""

from __future__ import annotations

from typing import NamedTuple

from karen_learner.autonomy.triggers.trigger import Situation
from karen_learner.records.readings import Reading
from karen_learner.records.triggers import ConditionResult, TriggeredMode
from karen_learner.settings import TriggerSettings

FORCING = frozenset({"degradation", "consecutive_failures", "error_patterns", "drift", "freshness", "age"})
"""Triggers whose cycle trains even on fewer new examples than `learning.min_data_threshold`."""


class RequestedCycle(NamedTuple):
    """Mode, force and reason of a cycle."""

    mode: TriggeredMode
    force: bool
    reason: str


def requested_mode(situation: Situation, root: ConditionResult, settings: TriggerSettings) -> RequestedCycle:
    """The cycle that the tree requests. A person's request decides alone."""
    if situation.request is not None:
        return RequestedCycle(situation.request.mode, True, situation.request.reason)
    reasons = [leaf for leaf in root.leaves() if leaf.holds and leaf.name not in _GUARDS]
    force = any(leaf.name in FORCING for leaf in reasons)
    reason = "; ".join(f"{leaf.name}: {leaf.why}" for leaf in reasons)
    rise = _rise(situation.readings.get("degradation"))
    if rise is not None and rise >= settings.major_rise:
        return RequestedCycle("full", True, f"{reason}; the error rate rose by {rise:.2f}: full training")
    if _increments_fail(situation, settings.full_after):
        return RequestedCycle(
            "full", force, f"{reason}; {settings.full_after} increments deployed nothing: full training"
        )
    return RequestedCycle("auto", force, reason)


_GUARDS = frozenset({"no_cycle", "cooled_down", "outside_quiet_hours", "within_budget", "not_busy"})


def _rise(degradation: Reading | None) -> float | None:
    """The rise of the error rate behind an alarm."""
    if degradation is None or not degradation.alarm:
        return None
    rise = degradation.detail.get("rise")
    return rise if isinstance(rise, float) else None


def _increments_fail(situation: Situation, count: int) -> bool:
    """Whether the newest `count` decided cycles were incremental and deployed nothing."""
    decided = [one for one in situation.results if one.verdict is not None][:count]
    return len(decided) == count and all(one.mode != "full" and one.status != "deployed" for one in decided)
