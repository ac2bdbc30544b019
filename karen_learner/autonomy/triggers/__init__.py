"""Triggers: conditions for a learning cycle. The setting `triggers.condition` combines them in a tree.

A package adds a trigger by an entry point in the group `karen_learner_triggers`: its name, and a `Trigger`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points

from karen_learner.autonomy.triggers.guards import (
    CooledDown,
    NoCycle,
    NotBusy,
    OutsideQuietHours,
    WithinBudget,
)
from karen_learner.autonomy.triggers.occasions import (
    Age,
    ConsecutiveFailures,
    Cron,
    Interval,
    Manual,
    NewData,
)
from karen_learner.autonomy.triggers.readings import Degradation, Drift, ErrorPatterns, Freshness, OnReading
from karen_learner.autonomy.triggers.trigger import Check, Situation, Trigger
from karen_learner.errors import SettingsError

__all__ = ["ENTRY_POINTS", "OWN", "Check", "Situation", "Trigger", "find_trigger"]

ENTRY_POINTS = "karen_learner_triggers"

OWN: Mapping[str, type[Trigger]] = {
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
"""The triggers of this package."""


def find_trigger(name: str) -> type[Trigger]:
    """The trigger of this name. Raises SettingsError for an unknown or unusable one."""
    if name in OWN:
        return OWN[name]
    offered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in offered:
        known = ", ".join(sorted({*OWN, *offered}))
        raise SettingsError(
            f"unknown trigger {name!r:.60} in the setting triggers.condition: known are {known}"
        )
    try:
        found = offered[name].load()
    except Exception as error:
        raise SettingsError(
            f"the trigger {name!r} ({offered[name].value}) cannot be used: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Trigger)):
        raise SettingsError(f"the trigger {name!r} ({offered[name].value}) is no subclass of Trigger")
    return found
