"""`status`: champion, counts and advice for one tenant or all."""

from __future__ import annotations

from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import argument, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def status(
    run: Context,
    tenant: Annotated[str | None, argument("TENANT", "One tenant. Default: all tenants.")] = None,
) -> int:
    """Show health, live model, stored data and the next step of a tenant, or a table of all tenants.

    Exit codes: 0 healthy, 7 a live model does not answer or nothing can be stored.
    """
    from karen_learner.cli import render
    from karen_learner.cli.render_health import home_facts

    if tenant is not None:
        async with run.learner(tenant) as learner:
            found = await learner.status(tenant, load=True)
            home = await learner.health()
        healthy = home.healthy and found.health.healthy
        problems = home.to_dict()["problems"]
        document = {"healthy": healthy, **found.to_dict(), "home_problems": problems}
        run.output.result(document, *render.status(found, home), "", home_facts(home))
        return ExitCode.OK if healthy else ExitCode.UNHEALTHY
    async with run.learner() as learner:
        home = await learner.health()
        names = await learner.tenants()
        load = len(names) <= learner.settings.analysis.live_models
        statuses = [await learner.status(name, load=load) for name in names]
        metrics = await learner.get_learning_metrics()
    # counts and states only: the result of a cycle has the labels of a tenant
    tenants = [
        {"healthy": one.health.healthy, **one.to_dict()}
        | {"last_cycle": one.last_cycle.status if one.last_cycle else None}
        for one in statuses
    ]
    totals = metrics.model_dump(mode="json", exclude={"tenant_id", "last_cycle", "recent_cycles"})
    healthy = home.healthy and all(one.health.healthy for one in statuses)
    document = {"healthy": healthy, "tenants": tenants, "metrics": totals, "home": home.to_dict()}
    run.output.result(document, *render.tenants(statuses, metrics, home), home_facts(home))
    return ExitCode.OK if healthy else ExitCode.UNHEALTHY
