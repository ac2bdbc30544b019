"""Diagnoses: functions that find one problem each in a situation. Pure.

The setting `troubleshooter.diagnoses` lists the names of those in use; an empty list stands for all. A
package adds one by an entry point in the group `karen_learner_diagnoses`: its name, and a `Diagnosis`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from karen_learner.autonomy.troubleshooter.diagnoses import attempts, learning, operation, serving, trends
from karen_learner.autonomy.troubleshooter.situation import Situation
from karen_learner.records.incidents import Examination
from karen_learner.registry import Registry

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


Area = Literal["home", "stream", "serving", "learning", "attempts", "worker", "forecast"]


@dataclass(frozen=True)
class Diagnosis:
    """A problem that can be found, with the names of its remedies, the one with the smallest scope first.

    At most one remedy of an `area` of a tenant is in work: so the reading shows its effect alone. From
    `settle` after a remedy on, it has helped if `find` finds no problem. It has not helped if `find` finds
    one, or if the problem cannot be measured for `patience`.
    """

    find: Callable[[Situation], Examination]
    remedies: tuple[str, ...]
    scope: Literal["tenant", "home"] = "tenant"
    settle: timedelta = timedelta(0)
    patience: timedelta = 10 * MINUTE
    area: Area = "learning"


_OWN = {
    "disk_low": Diagnosis(operation.disk_low, ("prune", "vacuum", "shorten_retention"), "home", area="home"),
    "damaged_version": Diagnosis(serving.damaged_version, ("restore_version", "rollback"), area="serving"),
    "degraded_mode": Diagnosis(
        serving.degraded_mode,
        ("reload_model", "restore_version", "rollback", "fallback_rules"),
        area="serving",
    ),
    "label_collapse": Diagnosis(serving.label_collapse, ("rollback", "full_training"), area="serving"),
    "stalled_cycle": Diagnosis(
        operation.stalled_cycle, ("restart_worker", "recover_cycles"), settle=MINUTE, area="worker"
    ),
    "memory_exhausted": Diagnosis(
        learning.memory_exhausted, ("smaller_batches", "smaller_cycles", "restart_worker"), patience=HOUR
    ),
    "divergence": Diagnosis(
        learning.divergence, ("lower_rate", "reset_parameters", "full_training"), patience=HOUR
    ),
    "failing_cycles": Diagnosis(
        learning.failing_cycles, ("restart_worker", "reset_parameters", "full_training"), patience=DAY
    ),
    "repeated_rejections": Diagnosis(
        learning.repeated_rejections, ("quarantine_batch", "more_replay", "full_training"), patience=DAY
    ),
    "repeated_rollbacks": Diagnosis(learning.repeated_rollbacks, ("more_replay",), patience=7 * DAY),
    "consecutive_failures": Diagnosis(
        attempts.consecutive_failures,
        ("rotate_strategy", "emergency_switch", "rollback"),
        patience=HOUR,
        area="attempts",
    ),
    "low_success_rate": Diagnosis(
        attempts.low_success_rate,
        ("rotate_strategy", "emergency_switch", "rollback"),
        patience=6 * HOUR,
        area="attempts",
    ),
    "drift": Diagnosis(learning.drift, ("learning_cycle", "full_training"), patience=DAY),
    "stale_model": Diagnosis(learning.stale_model, ("learning_cycle", "full_training"), patience=HOUR),
    "label_imbalance": Diagnosis(learning.label_imbalance, ()),
    "small_judging_set": Diagnosis(learning.small_judging_set, ()),
    "slow_analysis": Diagnosis(
        serving.slow_analysis, ("smaller_analysis_batches", "reload_model"), patience=HOUR, area="serving"
    ),
    "bloated_database": Diagnosis(operation.bloated_database, ("vacuum",), "home", area="home"),
    "stream_down": Diagnosis(
        operation.stream_down, ("restart_stream",), "home", settle=MINUTE, area="stream"
    ),
    "disk_forecast": Diagnosis(
        trends.disk_forecast, ("prune", "vacuum"), "home", settle=DAY, patience=3 * DAY, area="forecast"
    ),
    "accuracy_forecast": Diagnosis(
        trends.accuracy_forecast,
        ("learning_cycle", "full_training"),
        settle=DAY,
        patience=3 * DAY,
        area="forecast",
    ),
    "memory_forecast": Diagnosis(
        trends.memory_forecast, ("restart_worker",), settle=DAY, patience=3 * DAY, area="forecast"
    ),
    "latency_forecast": Diagnosis(
        trends.latency_forecast, ("smaller_analysis_batches",), settle=DAY, patience=3 * DAY, area="forecast"
    ),
}
"""The diagnoses of this package: causes stand before their consequences."""

DIAGNOSES = Registry(
    "diagnosis",
    "karen_learner_diagnoses",
    _OWN,
    setting="troubleshooter.diagnoses",
    form="Diagnosis",
    check=lambda found: isinstance(found, Diagnosis),
)
