"""Components of the production log: one for each log type of the host."""

from __future__ import annotations

from collections import deque
from collections.abc import Container

from karen_learner.improvement.samples import AFTER, BEFORE, Metric, Samples, Source

SUFFIX = "_performance"
METRICS = (
    Metric("approval_rate"),
    Metric("success_rate"),
    Metric("quality"),
    Metric("processing_time", "lower", is_share=False),
    Metric("improvement_potential", "lower"),
    Metric("confidence", "neutral"),
)


async def production(source: Source) -> dict[str, Samples]:
    """The metrics of each log type. The component `<log_type>_performance` has the values.

    `template_effectiveness` is the share of accepted results by template, `methods` that by method.
    """
    span, found = source.span, dict[str, Samples]()
    period = {"start": span.start, "split": span.split, "end": span.end}
    for one in await source.store.decision_sums(source.tenant_id, **period):
        samples = found.setdefault(one.log_type, Samples(METRICS, source.max_ids, "entry_ids"))
        side = AFTER if one.after else BEFORE
        samples.observations += one.entries if one.after else 0
        for metric, count in one.counts.items():
            if count:
                samples.add_sum(metric, side, one.cluster, count, one.totals[metric])
    await _add_groups(source, found)
    await _add_ids(source, found)
    return {component_of(log_type, found): samples for log_type, samples in found.items()}


def component_of(log_type: str, known: Container[str]) -> str:
    """The name of the component of a log type: itself if it has the suffix, and no other type claims it."""
    is_claimed = log_type.removesuffix(SUFFIX) in known
    return log_type if log_type.endswith(SUFFIX) and not is_claimed else f"{log_type}{SUFFIX}"


async def _add_groups(source: Source, found: dict[str, Samples]) -> None:
    span = source.span
    for name, column in (("template_effectiveness", "template"), ("methods", "method")):
        groups = await source.store.decision_groups(source.tenant_id, column, start=span.split, end=span.end)
        for log_type, means in groups.items():
            if log_type in found:
                found[log_type].groups[name] = means


async def _add_ids(source: Source, found: dict[str, Samples]) -> None:
    """The newest entries that were not accepted, or failed."""
    period = {"start": source.span.split, "end": source.span.end}
    for metric in ("approval_rate", "success_rate"):
        bad = await source.store.bad_decisions(source.tenant_id, metric, **period, limit=source.max_ids)
        for log_type, names in bad.items():
            if log_type in found:
                found[log_type].ids[metric] = deque(names)
