"""Diagnoses of the operation: disk, database, worker, stream."""

from __future__ import annotations

from datetime import timedelta

from karen_learner.autonomy.troubleshooter.situation import Situation
from karen_learner.disk import FULL_BYTES, bytes_text
from karen_learner.monitoring.health import LOW_DISK_BYTES, LOW_DISK_SHARE
from karen_learner.records.incidents import Examination

FREE_PAGES_SHARE_MAX = 0.5
FREE_PAGES_MIN = 8_000_000
LAG_MAX = 10_000


def disk_low(situation: Situation) -> Examination:
    """The disk of the home is almost full; critical if nothing can be stored."""
    disk = situation.home.disk
    limit = min(LOW_DISK_BYTES, LOW_DISK_SHARE * disk.size)
    is_full = disk.free < 4 * FULL_BYTES or situation.home.read_only is not None
    return Examination(
        present=disk.free < limit or situation.home.read_only is not None,
        severity="critical" if is_full else "warning",
        reading="disk_free",
        value=float(disk.free),
        limit=float(limit),
        summary=f"{bytes_text(disk.free)} of {bytes_text(disk.size)} are free",
    )


def bloated_database(situation: Situation) -> Examination:
    """More than half of the database file is free pages."""
    size, free = situation.database
    share = free / size if size else 0.0
    return Examination(
        present=share > FREE_PAGES_SHARE_MAX and free > FREE_PAGES_MIN,
        reading="free_pages",
        value=share,
        limit=FREE_PAGES_SHARE_MAX,
        summary=f"{bytes_text(free)} of {bytes_text(size)} of the database are free pages",
    )


def stalled_cycle(situation: Situation) -> Examination:
    """A cycle runs, and holds its lease, without progress for `troubleshooter.stall_minutes`."""
    running = situation.status.running_cycle if situation.status is not None else None
    limit = situation.settings.troubleshooter.stall_minutes
    if running is None:
        return Examination(present=False, reading="cycle_progress", limit=limit)
    last = max(running.started_at, situation.progress_at or running.started_at)
    minutes = (situation.now - last) / timedelta(minutes=1)
    return Examination(
        present=minutes > limit,
        severity="critical",
        reading="cycle_progress",
        value=minutes,
        limit=limit,
        summary=f"the cycle {running.cycle_id} is {running.stage} without progress for {minutes:.0f} minutes",
        facts={"cycle": running.cycle_id, "stage": running.stage},
    )


def stream_down(situation: Situation) -> Examination:
    """The stream has stopped, its broker cannot be reached, or more than 10,000 events wait."""
    stream = situation.stream
    if stream is None:
        return Examination(present=None, reading="stream")
    source = stream.get("source") or {}
    lag = int(source.get("lag") or 0) + int(stream.get("waiting") or 0)
    is_connected = bool(source.get("connected", True))
    is_running = bool(stream.get("running", True))
    state = "stopped" if not is_running else "not connected" if not is_connected else f"{lag} events behind"
    return Examination(
        present=not is_running or not is_connected or lag > LAG_MAX,
        severity="warning" if is_running and is_connected else "critical",
        reading="stream",
        value=float(lag),
        limit=float(LAG_MAX),
        summary=f"the stream is {state}",
        facts={"lag": lag, "connected": int(is_connected), "running": int(is_running)},
    )
