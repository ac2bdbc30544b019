"""Strategies of a host by domain, their costs, and the rules for errors."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from karen_learner.autonomy.strategies import StrategyKnowledge
from karen_learner.records import utc_now
from karen_learner.records.strategies import Limits, StrategyEstimate
from karen_learner.service.dashboard.frame import Viewed
from karen_learner.service.dashboard.pages import page_router
from karen_learner.service.dashboard.sessions import viewer

router = page_router()


@dataclass(frozen=True)
class Domain:
    """The strategies of a domain, the best first. `frozen`: the one that a person has fixed."""

    name: str
    frozen: str | None
    strategies: list[tuple[StrategyEstimate, Limits]]


@router.get("/tenants/{tenant_id}/strategies", dependencies=[viewer("read")])
async def strategies(view: Viewed) -> Response:
    await view.learner.status(view.tenant_id)  # raises UnknownTenant
    settings = view.learner.settings.strategies
    known = StrategyKnowledge(settings, tenant_id=view.tenant_id, store=view.learner.store, clock=utc_now)
    await known.sync()
    metrics = (await view.parts.monitor(view.tenant_id)).get_system_metrics()
    return await view.page(
        "strategies.html",
        "Strategies and costs",
        domains=[_domain(known, name) for name in known.chooser.domains()],
        rules=known.rules.rules(),
        metrics=metrics,
    )


def _domain(known: StrategyKnowledge, name: str) -> Domain:
    found = sorted(known.chooser.estimates(name), key=lambda one: (not one.is_best, -one.expected))
    limits = [(one, known.limits.limits(name, one.strategy)) for one in found]
    return Domain(name, known.chooser.frozen(name), limits)
