"""Results of the condition tree of a tenant, with the readings of its leaves; schedules of cycles, reports.

A row of a schedule is the truth about its next and last runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from karen_learner.records.base import Record
from karen_learner.records.readings import Reading

TriggeredMode = Literal["auto", "incremental", "full"]
"""The mode of a cycle that a trigger requests. `auto`: incremental, unless the tenant has few examples."""


class ConditionResult(Record):
    """The result of one node. A leaf is a trigger; other nodes are `any`, `all`, `not` and `held`.

    `holds` since the time `since`, without a break. `why` names the compared values, `reading` the reading
    behind a leaf.
    """

    name: str
    holds: bool
    why: str
    since: datetime | None = None
    reading: Reading | None = None
    children: tuple[ConditionResult, ...] = ()

    def leaves(self) -> Iterator[ConditionResult]:
        """The leaves below this node, in order."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()


class TriggerTick(Record):
    """One evaluation of the condition tree of a tenant, and its consequence.

    `fires`: the tree holds. `mode` and `reason` are those of the requested cycle. `started` tells whether the
    cycle began: not in a dry run, and not while another cycle waits.
    """

    tenant_id: str
    at: datetime
    fires: bool
    mode: TriggeredMode
    force: bool
    reason: str
    root: ConditionResult
    started: bool = False


class CycleRequest(Record):
    """A person's request for a cycle, which the service runs at its next tick."""

    at: datetime
    mode: TriggeredMode = "auto"
    reason: str


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
