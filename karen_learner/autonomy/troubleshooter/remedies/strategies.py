"""Remedies that change the choice of strategies, by switches in the store."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from karen_learner.autonomy.troubleshooter.remedies.remedy import Care, Facts, Remedy, Token
from karen_learner.autonomy.troubleshooter.situation import Situation
from karen_learner.records.strategies import ALL_DOMAINS, StrategySwitch

BARRED_FOR = timedelta(hours=6)
FROZEN_FOR = timedelta(hours=24)
MIN_ATTEMPTS = 5


async def _worst(care: Care) -> Token | None:
    """The strategy with the lowest success rate in its domain, if the domain has others."""
    rates = _rates(care.situation)
    candidates = [
        (sum(results) / len(results), domain, strategy)
        for domain, of in rates.items()
        for strategy, results in of.items()
        if len(results) >= MIN_ATTEMPTS and len(_known(care.situation, domain)) > 1
    ]
    barred = {
        (one.domain, one.strategy) for one in care.situation.strategies.switches if one.name == "barred"
    }
    candidates = [one for one in candidates if (one[1], one[2]) not in barred]
    if not candidates:
        return None
    _, domain, strategy = min(candidates)
    return {"domain": domain, "strategy": strategy, "until": (care.situation.now + BARRED_FOR).isoformat()}


async def _bar(care: Care, token: Token) -> Facts:
    switch = StrategySwitch(
        name="barred",
        domain=token["domain"],
        strategy=token["strategy"],
        until=datetime.fromisoformat(token["until"]),
    )
    await care.learner.store.put_strategy_switch(care.tenant_id, switch)
    return {"domain": token["domain"], "barred": token["strategy"]}


async def _unbar(care: Care, token: Token) -> Facts:
    await care.learner.store.end_strategy_switch(care.tenant_id, "barred", token["domain"])
    return {"domain": token["domain"], "allowed": token["strategy"]}


async def _safest(care: Care) -> Token | None:
    """The safe default of the settings, else the strategy with the most attempts that is not the worst."""
    settings = care.situation.settings.strategies
    known = {one.name for one in care.situation.strategies.tallies if one.kind == "attempts"}
    configured = [names[0] for names in settings.domains.values() if names]
    default = settings.default if settings.default in known else next(iter(configured), None)
    if default is None or any(one.name == "frozen" for one in care.situation.strategies.switches):
        return None
    return {"strategy": default, "until": (care.situation.now + FROZEN_FOR).isoformat()}


async def _freeze(care: Care, token: Token) -> Facts:
    switch = StrategySwitch(
        name="frozen",
        domain=ALL_DOMAINS,
        strategy=token["strategy"],
        until=datetime.fromisoformat(token["until"]),
    )
    await care.learner.store.put_strategy_switch(care.tenant_id, switch)
    return {"strategy": token["strategy"]}


async def _thaw(care: Care, token: Token) -> Facts:
    await care.learner.store.end_strategy_switch(care.tenant_id, "frozen", ALL_DOMAINS)
    return {"ended": token["strategy"]}


def _rates(situation: Situation) -> dict[str, dict[str, list[bool]]]:
    found: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for one in situation.outcomes:
        if one.success is not None and one.strategy is not None and one.domain is not None:
            found[one.domain][one.strategy].append(one.success)
    return found


def _known(situation: Situation, domain: str) -> set[str]:
    tallied = {
        one.name for one in situation.strategies.tallies if one.kind == "attempts" and one.domain == domain
    }
    return tallied | set(situation.settings.strategies.domains.get(domain, ()))


ROTATE = Remedy(
    "bar the strategy with the lowest success rate in its domain for six hours", _worst, _bar, _unbar
)
EMERGENCY = Remedy(
    "use the safe default strategy everywhere for a day", _safest, _freeze, _thaw, is_notable=True
)
