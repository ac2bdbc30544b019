"""Remedies: acts that may end a problem, each with the way to undo it.

A package adds one by an entry point in the group `karen_learner_remedies`: its name, and a `Remedy`.
"""

from __future__ import annotations

from karen_learner.autonomy.troubleshooter.remedies import model, process, storage, strategies, tuning
from karen_learner.autonomy.troubleshooter.remedies.remedy import Care, Remedy, Token
from karen_learner.registry import Registry

__all__ = ["REMEDIES", "Care", "Remedy", "Token"]

_OWN = {
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
REMEDIES = Registry(
    "remedy",
    "karen_learner_remedies",
    _OWN,
    form="Remedy",
    check=lambda found: isinstance(found, Remedy),
)
