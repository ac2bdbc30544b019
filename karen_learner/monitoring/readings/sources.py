"""The values from which readings are computed: a snapshot of one tenant at one time."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from karen_learner.components.textcat.calibration import Calibration
from karen_learner.disk import existing
from karen_learner.models.files import HomeLayout
from karen_learner.monitoring.degradation import DegradationDetector
from karen_learner.monitoring.readings.recent import TurnFacts
from karen_learner.records import ModelVersion, Outcome, TenantCounts
from karen_learner.records.readings import Detail, Direction, Reading, Unit
from karen_learner.settings import MonitoringSettings

ONE_SIDED = 0.025
"""The chance that a bound of a 95 % interval is wrong, on one side."""
MONTH_DAYS = 30.0
MIN_OBSERVATIONS = 20
"""Observations without which a reading has no value."""
STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Resources:
    """Resources of this machine and process, in bytes. `cpu` is the load average by number of cores."""

    memory: int = 0
    disk_free: int = 0
    disk_size: int = 0
    database: int = 0
    cpu: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Sources:
    """A snapshot of a tenant: its newest turns and outcomes, counters, champion, resources, and the
    calibration of its intents.

    `turn_count` counts all turns that were read since the start. `intents` are the labels of the schema.
    `kept` holds values that readings keep between two snapshots.
    """

    tenant_id: str
    now: datetime
    settings: MonitoringSettings
    turns: Sequence[TurnFacts] = ()
    outcomes: Sequence[Outcome] = ()
    detectors: Mapping[str, DegradationDetector] = field(default_factory=dict)
    counts: TenantCounts = field(default_factory=TenantCounts)
    champion: ModelVersion | None = None
    calibration: Calibration | None = None
    intents: Collection[str] = ()
    resources: Resources = field(default_factory=Resources)
    turn_count: int = 0
    kept: dict[str, Any] = field(default_factory=dict)

    def reading(
        self,
        name: str,
        value: float | None,
        *,
        unit: Unit,
        direction: Direction,
        interval: tuple[float, float] | None = None,
        detail: Detail | None = None,
        **more: Any,
    ) -> Reading:
        """A reading of this tenant at this time. Without an interval the value is exact."""
        low, high = (value, value) if interval is None else interval
        return Reading(
            name=name,
            tenant_id=self.tenant_id,
            at=self.now,
            unit=unit,
            direction=direction,
            value=value,
            low=low,
            high=high,
            detail=detail or {},
            **more,
        )

    def windows_per_month(self, times: Sequence[datetime]) -> float:
        """The number of disjoint samples of this size in a month, at the pace of these observations."""
        if len(times) < 2:
            return 0.0
        days = max((self.now - times[0]) / timedelta(days=1), 1 / 24)
        return MONTH_DAYS / days

    def scored(self) -> list[Outcome]:
        """The outcomes with a score, of the champion or of models without a version."""
        version = self.champion.version if self.champion is not None else None
        return [one for one in self.outcomes if one.score is not None and one.version in (None, version)]


def resources_of(layout: HomeLayout) -> Resources:
    """The resources now. Blocking."""
    usage = shutil.disk_usage(existing(layout.home))
    try:
        database = layout.database.stat().st_size
    except FileNotFoundError:  # a database on a server
        database = 0
    return Resources(
        memory=_memory(),
        disk_free=usage.free,
        disk_size=usage.total,
        database=database,
        cpu=_load(),
    )


def _memory() -> int:
    """Resident bytes of this process; where the system does not tell them, the highest so far."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _load() -> float:
    """The load average of the last minute, divided by the number of cores."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)
