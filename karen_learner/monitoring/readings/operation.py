"""Exact readings of the operation: freshness of the model, new samples, memory, disk, database, CPU."""

from __future__ import annotations

from datetime import timedelta

from karen_learner.monitoring.readings.sources import Sources
from karen_learner.records.readings import Direction, Reading, Unit


def freshness(sources: Sources) -> Reading:
    """Days since the champion was trained."""
    champion = sources.champion
    age = None if champion is None else (sources.now - champion.created_at) / timedelta(days=1)
    return _exact(sources, "freshness", age, "days", observations=sources.counts.cycles)


def memory(sources: Sources) -> Reading:
    """Resident bytes of this process."""
    return _exact(sources, "memory", sources.resources.memory, "bytes")


def disk_free(sources: Sources) -> Reading:
    """Free bytes of the file system of the home."""
    found = sources.resources
    return _exact(
        sources, "disk_free", found.disk_free, "bytes", "lower_is_worse", reference=float(found.disk_size)
    )


def database_size(sources: Sources) -> Reading:
    """Bytes of the database file; 0 for a database on a server."""
    return _exact(sources, "database_size", sources.resources.database, "bytes")


def cpu(sources: Sources) -> Reading:
    """Load average of the machine by core."""
    return _exact(sources, "cpu", sources.resources.cpu, "share")


def _exact(
    sources: Sources,
    name: str,
    value: float | None,
    unit: Unit,
    direction: Direction = "higher_is_worse",
    *,
    observations: int = 1,
    reference: float | None = None,
) -> Reading:
    exact = None if value is None else float(value)
    return sources.reading(
        name, exact, unit=unit, direction=direction, observations=observations, reference=reference
    )
