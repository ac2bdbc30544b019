"""Triggers: conditions for a learning cycle. The setting `triggers.condition` combines them in a tree.

A package adds a trigger by an entry point in the group `karen_learner_triggers`: its name, and a `Trigger`.
"""

from __future__ import annotations

from karen_learner.autonomy.triggers.guards import (
    CooledDown,
    NoCycle,
    NotBusy,
    OutsideQuietHours,
    WithinBudget,
)
from karen_learner.autonomy.triggers.readings import Degradation, Drift, ErrorPatterns, Freshness, OnReading
from karen_learner.autonomy.triggers.time_and_data import (
    Age,
    ConsecutiveFailures,
    Cron,
    Interval,
    Manual,
    NewData,
)
from karen_learner.autonomy.triggers.trigger import Check, Situation, Trigger
from karen_learner.registry import Registry

__all__ = ["TRIGGERS", "Check", "Situation", "Trigger"]

_OWN: dict[str, type[Trigger]] = {
    "manual": Manual,
    "new_data": NewData,
    "age": Age,
    "interval": Interval,
    "cron": Cron,
    "consecutive_failures": ConsecutiveFailures,
    "reading": OnReading,
    "degradation": Degradation,
    "error_patterns": ErrorPatterns,
    "drift": Drift,
    "freshness": Freshness,
    "no_cycle": NoCycle,
    "cooled_down": CooledDown,
    "outside_quiet_hours": OutsideQuietHours,
    "within_budget": WithinBudget,
    "not_busy": NotBusy,
}


def _is_trigger(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Trigger)


TRIGGERS = Registry(
    "trigger",
    "karen_learner_triggers",
    _OWN,
    setting="triggers.condition",
    form="subclass of Trigger",
    check=_is_trigger,
)
