"""`status`: champion, counts and advice for one tenant or all."""

from __future__ import annotations

from typing import Annotated

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def status(
    run: Context,
    tenant: Annotated[
        str | None,
        typer.Argument(metavar="TENANT", help="One tenant. Default: all tenants.", show_default=False),
    ] = None,
) -> int:
    """Show the live model, stored data and the next step of a tenant, or a table of all tenants."""
    from karen_learner.cli import render

    if tenant is not None:
        async with run.learner(tenant) as learner:
            found = await learner.status(tenant)
        run.output.result(found.to_dict(), *render.status(found))
        return ExitCode.OK
    async with run.learner() as learner:
        statuses = [await learner.status(name) for name in await learner.tenants()]
        metrics = await learner.get_learning_metrics()
    # counts and states only: the result of a cycle has the labels of a tenant
    tenants = [
        one.to_dict() | {"last_cycle": one.last_cycle.status if one.last_cycle else None} for one in statuses
    ]
    totals = metrics.model_dump(mode="json", exclude={"tenant_id", "last_cycle", "recent_cycles"})
    run.output.result({"tenants": tenants, "metrics": totals}, *render.tenants(statuses, metrics))
    return ExitCode.OK
