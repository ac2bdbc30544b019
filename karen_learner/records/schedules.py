"""Schedules of learning cycles and reports: rows that are the truth about next and last runs."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from karen_learner.records.base import Record
from karen_learner.records.triggers import TriggeredMode

RunStatus = Literal["running", "deployed", "rejected", "rolled_back", "skipped", "failed", "made"]
"""`made`: a report is stored."""
ScheduledJob = Literal["cycle", "report"]


class Schedule(Record):
    """A cron expression for cycles or reports of a tenant, with its state.

    Times are UTC, `zone` an IANA time zone. `next_run` is the next time of the expression, or that of a
    retry. `heartbeat` is the last time at which a service looked at the row. `missed` counts the times that
    passed without a service; they are caught up by one run. `failures` counts the failed runs in a row.
    """

    tenant_id: str
    name: str
    expression: str
    zone: str = "UTC"
    job: ScheduledJob = "cycle"
    mode: TriggeredMode = "auto"
    next_run: datetime
    last_run: datetime | None = None
    last_status: RunStatus | None = None
    heartbeat: datetime | None = None
    missed: int = 0
    failures: int = 0

    @property
    def healthy(self) -> bool:
        """Whether the last run did not fail."""
        return self.failures == 0
