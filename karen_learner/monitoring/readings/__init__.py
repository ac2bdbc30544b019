"""Readings: functions that compute one measured value each from the sources of a tenant.

The setting `monitoring.readings` lists the names of those in use; an empty list stands for all of this
package. A package adds a reading by an entry point in the group `karen_learner_readings`: its name, and a
`ReadingFunction`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from asyncio_extras import call_in_executor

from karen_learner.components.textcat.calibration import Calibration
from karen_learner.contracts import MemoryStore
from karen_learner.models.files import HomeLayout
from karen_learner.models.versions import intent_calibration
from karen_learner.monitoring.readings import drift, errors, estimate, operation, quality, traffic
from karen_learner.monitoring.readings.over_time import QualityPoint, quality_by_version, quality_series
from karen_learner.monitoring.readings.recent import RecentData
from karen_learner.monitoring.readings.sources import Resources, Sources, resources_of
from karen_learner.monitoring.readings.topics import Topic, topics_of
from karen_learner.records import CHAMPION, ModelVersion, Outcome
from karen_learner.records.readings import Reading
from karen_learner.registry import Registry
from karen_learner.settings import Settings

logger = logging.getLogger(__name__)

ReadingFunction = Callable[[Sources], Reading]
"""The reading of a tenant from a snapshot. Pure. Without enough observations its value is None."""

_OWN: dict[str, ReadingFunction] = {
    "accuracy": quality.accuracy,
    "correction_rate": quality.correction_rate,
    "degradation": quality.degradation,
    "failure_rate": quality.failure_rate,
    "satisfaction": quality.satisfaction,
    "response_quality": quality.response_quality,
    "unknown_labels": quality.unknown_labels,
    "fallback_rate": traffic.fallback_rate,
    "out_of_scope_rate": traffic.out_of_scope_rate,
    "latency": traffic.latency,
    "silent_source": traffic.silent_source,
    "label_distribution": traffic.label_distribution,
    "error_pattern": errors.error_pattern,
    "input_drift": drift.input_drift,
    "vocabulary": drift.vocabulary,
    "estimated_accuracy": estimate.estimated_accuracy,
    "freshness": operation.freshness,
    "memory": operation.memory,
    "disk_free": operation.disk_free,
    "database_size": operation.database_size,
    "cpu": operation.cpu,
}
READINGS = Registry("reading", "karen_learner_readings", _OWN, setting="monitoring.readings")


def compute(functions: Mapping[str, ReadingFunction], sources: Sources) -> dict[str, Reading]:
    """The readings of a snapshot, by name. One that fails is left out and logged: the others go on."""
    found = {}
    for name, function in functions.items():
        try:
            found[name] = function(sources)
        except Exception:  # a reading of a host must not end the others
            logger.exception("the reading %r of %r failed", name, sources.tenant_id)
    return found


@dataclass(eq=False)
class Readings:
    """Computes and keeps the newest readings of each tenant.

    `refresh` reads new rows of the store only. The computation runs in a thread. Raises SettingsError for an
    unknown name in `monitoring.readings`.
    """

    store: MemoryStore
    layout: HomeLayout
    settings: Settings
    _recent: dict[str, RecentData] = field(default_factory=dict)
    _newest: dict[str, Mapping[str, Reading]] = field(default_factory=dict)
    _kept: dict[str, dict[str, object]] = field(default_factory=dict)
    _calibrations: dict[str, tuple[str, Calibration | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._functions = READINGS.find_all(self.settings.monitoring.readings or READINGS.own)

    async def refresh(self, tenant_id: str, now: datetime) -> Mapping[str, Reading]:
        """Compute the readings of a tenant. Raises StoreError."""
        monitoring = self.settings.monitoring
        if tenant_id not in self._recent:
            self._recent[tenant_id] = RecentData(self.store, tenant_id, monitoring)
        recent = self._recent[tenant_id]
        champion = await self.store.alias(tenant_id, CHAMPION)
        await recent.refresh(now, champion)
        labels = await self.store.labels(tenant_id)
        resources: Resources = await call_in_executor(resources_of, self.layout)
        sources = Sources(
            tenant_id=tenant_id,
            now=now,
            settings=monitoring,
            turns=tuple(recent.turns),
            outcomes=tuple(recent.outcomes),
            detectors=recent.detectors,
            counts=await self.store.counts(tenant_id),
            champion=champion,
            calibration=await self._calibration(champion),
            intents=labels["intent"].keys(),
            resources=resources,
            turn_count=recent.turn_count,
            kept=self._kept.setdefault(tenant_id, {}),
        )
        found: Mapping[str, Reading] = await call_in_executor(compute, self._functions, sources)
        self._newest[tenant_id] = found
        return found

    def quality(self, tenant_id: str) -> list[QualityPoint]:
        """The quality of a tenant over time, as of the last `refresh`."""
        recent = self._recent.get(tenant_id)
        return [] if recent is None else quality_series(recent.turns)

    def quality_by_version(self, tenant_id: str) -> dict[str, QualityPoint]:
        """The quality of each version on its recent turns, as of the last `refresh`."""
        recent = self._recent.get(tenant_id)
        return {} if recent is None else quality_by_version(recent.turns)

    def topics(self, tenant_id: str) -> list[Topic]:
        """The topics of the recent turns of a tenant, as of the last `refresh`."""
        recent = self._recent.get(tenant_id)
        return [] if recent is None else topics_of(recent.turns)

    async def _calibration(self, champion: ModelVersion | None) -> Calibration | None:
        """The calibration of the intents of a version, read once."""
        if champion is None:
            return None
        kept = self._calibrations.get(champion.tenant_id)
        if kept is None or kept[0] != champion.version:
            found = await call_in_executor(intent_calibration, champion.path)
            kept = self._calibrations[champion.tenant_id] = champion.version, found
        return kept[1]

    def newest_outcomes(self, tenant_id: str) -> Sequence[Outcome]:
        """The newest outcomes of a tenant, oldest first, as of the last `refresh`."""
        recent = self._recent.get(tenant_id)
        return () if recent is None else tuple(recent.outcomes)

    def latest(self, tenant_id: str) -> Mapping[str, Reading]:
        """The readings of the last `refresh`, by name; empty before it."""
        return self._newest.get(tenant_id, {})
