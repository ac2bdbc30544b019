"""`status`: champion, counts and advice for one tenant or all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karen_learner.cli import render
from karen_learner.cli.context import Context
from karen_learner.cli.options import with_common_options
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import LearningMetrics, TenantStatus


@with_common_options
def status(
    run: Context,
    tenant: Annotated[
        str | None,
        typer.Argument(metavar="TENANT", help="One tenant. Default: all tenants.", show_default=False),
    ] = None,
) -> int:
    """Show the live model, stored data and the next step of a tenant, or a table of all tenants."""
    if tenant is not None:
        found = run.run(lambda learner: learner.status(tenant), tenant=tenant)
        run.output.result(found.to_dict(), *render.status(found))
    else:
        statuses, metrics = run.run(all_tenants)
        run.output.result(_document(statuses, metrics), *render.tenants(statuses, metrics))
    return ExitCode.OK


async def all_tenants(learner: AutonomousLearner) -> tuple[Sequence[TenantStatus], LearningMetrics]:
    """The status of every tenant, and the totals."""
    statuses = [await learner.status(tenant) for tenant in await learner.tenants()]
    return statuses, await learner.get_learning_metrics()


def _document(statuses: Sequence[TenantStatus], metrics: LearningMetrics) -> dict[str, Any]:
    """Counts and states only: the result of a cycle quotes texts of users."""
    tenants = [
        status.to_dict() | {"last_cycle": status.last_cycle.status if status.last_cycle else None}
        for status in statuses
    ]
    totals = metrics.model_dump(mode="json", exclude={"tenant_id", "last_cycle", "recent_cycles"})
    return {"tenants": tenants, "metrics": totals}
