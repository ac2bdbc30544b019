"""Stream: delay of the events of a host, and those that wait."""

from __future__ import annotations

from karen_learner.improvement.samples import AFTER, BEFORE, CLUSTERS, Metric, Samples, Source

METRICS = (Metric("delay_s", "lower", is_share=False), Metric("waiting_rate", "lower"))


async def stream(source: Source) -> dict[str, Samples]:
    """Seconds between an event and its arrival, and the share of events that wait for processing.

    Events of one hour depend on each other: the hour is their cluster.
    """
    samples, span = Samples(METRICS, source.max_ids), source.span
    found = await source.store.event_sums(source.tenant_id, start=span.start, split=span.split, end=span.end)
    for one in found:
        side, cluster = AFTER if one.after else BEFORE, one.hour % CLUSTERS
        samples.observations += one.events if one.after else 0
        samples.add_sum("delay_s", side, cluster, one.events, one.delay_s)
        samples.add_sum("waiting_rate", side, cluster, one.events, one.waiting)
    return {"stream": samples}
