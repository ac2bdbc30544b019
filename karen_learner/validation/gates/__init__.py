"""Gates: functions that check one condition each. The setting `gate.gates` lists the names of those in use.

A package adds a gate by an entry point in the group `karen_learner_gates`: its name, and a `GateFunction`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points

from karen_learner.errors import SettingsError
from karen_learner.records import GateCheck
from karen_learner.settings import Settings
from karen_learner.validation.evidence import Evidence
from karen_learner.validation.gates.improved import improved
from karen_learner.validation.gates.limits import agreement, anchor, budgets, not_worse, thresholds

GateFunction = Callable[[Evidence, Settings], Sequence[GateCheck]]
"""The checks of one gate, all of which must pass. The evidence has a champion and gold. Pure."""

ENTRY_POINTS = "karen_learner_gates"

OWN: Mapping[str, GateFunction] = {
    "improved": improved,
    "not_worse": not_worse,
    "anchor": anchor,
    "thresholds": thresholds,
    "agreement": agreement,
    "budgets": budgets,
}
"""The gates of this package."""


def find_gates(names: Iterable[str]) -> dict[str, GateFunction]:
    """The gates of these names, in order. Raises SettingsError for an unknown name."""
    offered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    return {name: _find(name, offered) for name in names}


def _find(name: str, offered: Mapping[str, EntryPoint]) -> GateFunction:
    if name in OWN:
        return OWN[name]
    if name not in offered:
        known = ", ".join(sorted({*OWN, *offered}))
        raise SettingsError(f"unknown gate {name!r} in the setting gate.gates: known are {known}")
    try:
        gate: GateFunction = offered[name].load()
    except Exception as error:
        raise SettingsError(f"the gate {name!r} ({offered[name].value}) cannot be used: {error}") from error
    return gate
