"""`strategies`: strategies by domain, tuned limits and rules for errors; a strategy is frozen or released."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import argument, flag, option, with_common_options
from karen_learner.errors import ExitCode, InvalidInput

if TYPE_CHECKING:
    from rich.console import RenderableType

    from karen_learner.autonomy.strategies import StrategyKnowledge


@with_common_options
async def strategies(
    run: Context,
    tenant: Annotated[str | None, argument("[TENANT]", "Id of the tenant. Default: all tenants.")] = None,
    freeze: Annotated[str | None, option("STRATEGY", "Use this strategy alone, without exploration.")] = None,
    unfreeze: Annotated[bool, flag("--unfreeze", "End --freeze.")] = False,
    domain: Annotated[str | None, option("DOMAIN", "Domain to freeze. Default: all domains.")] = None,
) -> int:
    """Show strategies by domain with their success rates, limits and rules for errors.

    Frozen strategies and attempts of running systems are shown after a few seconds.
    """
    if (freeze is not None or unfreeze) and tenant is None:
        raise typer.BadParameter("--freeze and --unfreeze need a TENANT")
    if freeze is not None and unfreeze:
        raise typer.BadParameter("use --freeze or --unfreeze")
    from karen_learner.autonomy.strategies import StrategyKnowledge
    from karen_learner.records import utc_now

    documents, shown = [], []
    async with run.learner(tenant) as learner:
        known = await learner.store.tenants_with_strategies()
        if tenant is not None and tenant not in known and freeze is None:
            raise InvalidInput(f"the tenant {tenant!r} has no strategies yet: record attempts first")
        settings = learner.settings.strategies
        for name in known if tenant is None else [tenant]:
            knowledge = StrategyKnowledge(settings, tenant_id=name, store=learner.store, clock=utc_now)
            await knowledge.sync()
            if freeze is not None:
                knowledge.freeze(freeze, domain)
            elif unfreeze:
                knowledge.unfreeze(domain)
            await knowledge.sync()
            documents.append(_document(name, knowledge))
            shown += _tables(name, knowledge)
    run.output.result(documents, *(shown or ["no strategies"]))
    return ExitCode.OK


def _document(tenant: str, knowledge: StrategyKnowledge) -> dict[str, Any]:
    chooser = knowledge.chooser
    return {
        "tenant_id": tenant,
        "domains": [
            {
                "domain": domain,
                "frozen": chooser.frozen(domain),
                "strategies": [
                    {**one.to_dict(), "limits": knowledge.limits.limits(domain, one.strategy).to_dict()}
                    for one in chooser.estimates(domain)
                ],
            }
            for domain in chooser.domains()
        ],
        "rules": [{**one.to_dict(), "text": one.text} for one in knowledge.rules.rules()],
    }


def _tables(tenant: str, knowledge: StrategyKnowledge) -> list[RenderableType]:
    from karen_learner.cli.tables import FittingTable

    rows = [
        {
            "domain": domain,
            "strategy": one.strategy,
            "use": _use(one.is_best, frozen=knowledge.chooser.frozen(domain), barred=one.barred),
            "success": f"{one.expected:.2f} ({one.low:.2f} to {one.high:.2f})",
            "attempts": round(one.successes + one.failures, 1),
            "timeout s": limits.timeout_s and round(limits.timeout_s, 2),
            "retries": limits.retries,
            "concurrency": limits.concurrency,
            "pool": limits.pool_size,
        }
        for domain in knowledge.chooser.domains()
        for one in knowledge.chooser.estimates(domain)
        for limits in [knowledge.limits.limits(domain, one.strategy)]
    ]
    lines: list[RenderableType] = [
        FittingTable(rows, title=f"Strategies of {tenant}", optional=("pool", "concurrency", "retries"))
    ]
    return lines + [one.text for one in knowledge.rules.rules()]


def _use(is_best: bool, *, frozen: str | None, barred: bool) -> str | None:
    if is_best:
        return "frozen" if frozen is not None else "best"
    return "excluded" if barred else None
