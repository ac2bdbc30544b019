"""`status`, `history` and `versions`: what there is, and how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from karen_learner.cli import render
from karen_learner.cli.arguments import Tenant
from karen_learner.cli.exits import ExitCode
from karen_learner.cli.invocation import Invocation
from karen_learner.cli.options import with_common_options

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import LearningMetrics, ModelVersion, TenantStatus

Limit = Annotated[int, typer.Option(help="The newest ones only, so many.", min=1, metavar="N")]


@with_common_options
def status(
    run: Invocation,
    tenant: Annotated[
        str | None,
        typer.Argument(metavar="[TENANT]", help="One tenant; without it, all of them.", show_default=False),
    ] = None,
) -> int:
    """Tell what is live, what is waiting and what to do; without a tenant, a table of all of them."""
    if tenant is not None:
        found = run.run(lambda learner: learner.status(tenant), tenant=tenant)
        run.output.result(found.to_dict(), *render.status(found))
    else:
        everybody, metrics = run.run(all_tenants)
        run.output.result(_overview(everybody, metrics), *render.tenants(everybody, metrics))
    return ExitCode.OK


async def all_tenants(learner: AutonomousLearner) -> tuple[Sequence[TenantStatus], LearningMetrics]:
    """The status of every tenant, and the sums."""
    everybody = [await learner.status(tenant) for tenant in await learner.tenants()]
    return everybody, await learner.get_learning_metrics()


def _overview(everybody: Sequence[TenantStatus], metrics: LearningMetrics) -> dict[str, Any]:
    """Counts and states only: a cycle's result quotes the texts of users."""
    tenants = [
        status.to_dict() | {"last_cycle": status.last_cycle.status if status.last_cycle else None}
        for status in everybody
    ]
    without_content = metrics.model_dump(mode="json", exclude={"tenant_id", "last_cycle", "recent_cycles"})
    return {"tenants": tenants, "metrics": without_content}


@with_common_options
def history(run: Invocation, tenant: Tenant, limit: Limit = 20) -> int:
    """List the learning cycles and rollbacks of a tenant, newest first."""
    results = run.run(lambda learner: learner.history(tenant, limit=limit), tenant=tenant)
    run.output.result([result.to_dict() for result in results], _history_table(results))
    return ExitCode.OK


def _history_table(results: Sequence[Any]) -> Any:
    from karen_learner.cli.render_cycle import history as table

    return table(results)


@with_common_options
def versions(run: Invocation, tenant: Tenant, limit: Limit = 100) -> int:
    """List the model versions of a tenant, newest first; the live one is marked."""
    found, champion = run.run(lambda learner: with_champion(learner, tenant, limit), tenant=tenant)
    document = [version.to_dict() | {"live": version.version == champion} for version in found]
    run.output.result(document, render.versions(found, champion))
    return ExitCode.OK


async def with_champion(
    learner: AutonomousLearner, tenant: str, limit: int
) -> tuple[Sequence[ModelVersion], str | None]:
    """The versions, and the name of the live one."""
    found = await learner.versions(tenant, limit=limit)
    champion = (await learner.status(tenant)).champion
    return found, champion.version if champion else None


def register(app: typer.Typer) -> None:
    app.command()(status)
    app.command()(history)
    app.command()(versions)
