"""Remedies: acts that may end a problem, each with the way to undo it.

A package adds one by an entry point in the group `karen_learner_remedies`: its name, and a `Remedy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from karen_learner.autonomy.troubleshooter.remedies import model, process, storage, strategies, tuning
from karen_learner.autonomy.troubleshooter.remedies.remedy import Care, Remedy, Token
from karen_learner.errors import SettingsError

__all__ = ["OWN", "Care", "Remedy", "Token", "find_remedies"]

ENTRY_POINTS = "karen_learner_remedies"

OWN: Mapping[str, Remedy] = {
    "rotate_strategy": strategies.ROTATE,
    "emergency_switch": strategies.EMERGENCY,
    "smaller_batches": tuning.SMALLER_BATCHES,
    "smaller_cycles": tuning.SMALLER_CYCLES,
    "lower_rate": tuning.LOWER_RATE,
    "more_replay": tuning.MORE_REPLAY,
    "reset_parameters": tuning.RESET_PARAMETERS,
    "fallback_rules": tuning.FALLBACK_RULES,
    "shorten_retention": tuning.SHORTEN_RETENTION,
    "smaller_analysis_batches": tuning.SMALLER_ANALYSIS_BATCHES,
    "restart_worker": process.RESTART_WORKER,
    "recover_cycles": process.RECOVER_CYCLES,
    "restart_stream": process.RESTART_STREAM,
    "reload_model": process.RELOAD_MODEL,
    "prune": storage.PRUNE,
    "vacuum": storage.VACUUM,
    "quarantine_batch": model.QUARANTINE_BATCH,
    "restore_version": model.RESTORE_VERSION,
    "learning_cycle": model.LEARNING_CYCLE,
    "full_training": model.FULL_TRAINING,
    "rollback": model.ROLLBACK,
}
"""The remedies of this package."""


def find_remedies() -> dict[str, Remedy]:
    """All remedies by name. Raises SettingsError for an entry point that cannot be used."""
    offered = {entry.name: _load(entry) for entry in entry_points(group=ENTRY_POINTS)}
    return {**offered, **OWN}


def _load(entry: EntryPoint) -> Remedy:
    try:
        found = entry.load()
    except Exception as error:
        raise SettingsError(f"the remedy {entry.name!r} ({entry.value}) cannot be used: {error}") from error
    if not isinstance(found, Remedy):
        raise SettingsError(f"the remedy {entry.name!r} ({entry.value}) is no Remedy")
    return found
