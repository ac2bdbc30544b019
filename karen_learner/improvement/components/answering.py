"""Answering: strategies, LLMs, fallbacks, latency and cost, from the outcomes of attempts and runs."""

from __future__ import annotations

from collections.abc import Iterator

from karen_learner.improvement.samples import AFTER, GroupMeans, Metric, Samples, Source, cluster_of
from karen_learner.records import Outcome

METRICS = (
    Metric("success_rate"),
    Metric("accuracy"),
    Metric("satisfaction"),
    Metric("fallback_rate", "lower"),
    Metric("latency_ms", "lower", is_share=False),
    Metric("cost", "lower", is_share=False),
    Metric("llm_rate", "neutral"),
)
MIN_OUTCOMES = 20
"""Outcomes of a day without which it is no point of the curve of costs."""
LLM = "llm"
FALLBACKS = ("fallback", "rules")
"""Parts of the names of strategies and types of agents."""


async def answering(source: Source) -> dict[str, Samples]:
    """Means over the outcomes of attempts and runs. Those of turns belong to `understanding`.

    Outcomes of one task depend on each other: the task is their cluster.
    """
    samples, span = Samples(METRICS, source.max_ids, "task_ids"), source.span
    by_strategy = {name: GroupMeans() for name in ("success_by_strategy", "cost_by_strategy")}
    async for page in source.store.outcomes_between(source.tenant_id, span.start, span.end):
        for one in page:
            side = span.side(one.known_at)
            if side is None or one.source == "turn":
                continue
            task = one.task_id or one.outcome_id
            samples.add(side, cluster_of(task), observations(one), task)
            if side == AFTER:
                name = one.strategy or one.agent
                by_strategy["success_by_strategy"].add(name, one.success)
                by_strategy["cost_by_strategy"].add(name, one.cost)
    samples.groups |= {name: means for name, found in by_strategy.items() if (means := found.means())}
    return {"answering": samples}


async def daily_costs(source: Source) -> tuple[list[float], list[float]]:
    """The share of LLMs and the mean cost of each day with costs."""
    days: dict[int, list[float]] = {}
    async for page in source.store.outcomes_between(source.tenant_id, source.span.start, source.span.end):
        for one in page:
            if one.source != "turn" and one.cost is not None:
                day = days.setdefault(one.known_at.toordinal(), [0.0, 0.0, 0.0])
                for place, amount in enumerate((1.0, dict(observations(one))["llm_rate"] or 0.0, one.cost)):
                    day[place] += amount
    known = [day for day in days.values() if day[0] >= MIN_OUTCOMES]
    return [day[1] / day[0] for day in known], [day[2] / day[0] for day in known]


def observations(one: Outcome) -> Iterator[tuple[str, float | bool | None]]:
    """The observations of one outcome."""
    kind = f"{one.strategy or one.agent} {one.agent_type or ''}".casefold()
    yield "success_rate", one.success
    yield "accuracy", one.score
    yield "satisfaction", one.rating
    yield "latency_ms", one.duration_ms
    yield "cost", one.cost
    yield "llm_rate", LLM in kind
    yield "fallback_rate", any(part in kind for part in FALLBACKS)
