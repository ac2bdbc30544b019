"""Gates: functions that check one condition each. The setting `gate.gates` lists the names of those in use.

A package adds a gate by an entry point in the group `karen_learner_gates`: its name, and a `GateFunction`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from karen_learner.records import GateCheck
from karen_learner.registry import Registry
from karen_learner.settings import Settings
from karen_learner.validation.evidence import Evidence
from karen_learner.validation.gates.improved import improved
from karen_learner.validation.gates.limits import agreement, anchor, budgets, not_worse, thresholds

GateFunction = Callable[[Evidence, Settings], Sequence[GateCheck]]
"""The checks of one gate, all of which must pass. The evidence has a champion and gold. Pure."""

_OWN: dict[str, GateFunction] = {
    "improved": improved,
    "not_worse": not_worse,
    "anchor": anchor,
    "thresholds": thresholds,
    "agreement": agreement,
    "budgets": budgets,
}
GATES = Registry("gate", "karen_learner_gates", _OWN, setting="gate.gates")
