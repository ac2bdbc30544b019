"""Learning: cycles, the verdicts of the gates, and the quality of labels."""

from __future__ import annotations

from collections.abc import Iterator

from karen_learner.improvement.samples import Metric, Samples, Source, cluster_of
from karen_learner.records import LearningCycleResult

METRICS = (
    Metric("deployment_rate"),
    Metric("failed_cycles", "lower"),
    Metric("rollback_rate", "lower"),
    Metric("accuracy"),
    Metric("conflict_rate", "lower"),
    Metric("unusable_rate", "lower"),
    Metric("duration_s", "lower", is_share=False),
    Metric("training_examples", "neutral", is_share=False),
)
PAGE = 500
MAX_CYCLES = 1_000


async def learning(source: Source) -> dict[str, Samples]:
    """Rates over the cycles, the accuracies of deployed versions, and shares of the curated turns."""
    samples = Samples(METRICS, source.max_ids, "cycle_ids")
    for result in await results_since(source):
        side = source.span.side(result.started_at)
        if side is None or result.status == "skipped":
            continue
        cluster = cluster_of(result.cycle_id)
        samples.add(side, cluster, observations(result), result.cycle_id)
        counts = result.curation
        if counts is not None and counts.turns:
            unusable = counts.below_quality + counts.quarantined
            samples.add_sum("conflict_rate", side, cluster, counts.turns, counts.conflicts)
            samples.add_sum("unusable_rate", side, cluster, counts.turns, unusable)
    return {"learning": samples}


def observations(result: LearningCycleResult) -> Iterator[tuple[str, float | bool | None]]:
    """The observations of one cycle or rollback."""
    yield "rollback_rate", result.status == "rolled_back"
    if result.status == "rolled_back":
        return
    yield "failed_cycles", result.status == "failed"
    yield "duration_s", result.duration_s
    if result.status != "failed":
        yield "deployment_rate", result.status == "deployed"
        yield "training_examples", float(result.training_examples)
    if result.status == "deployed" and result.validation is not None:
        yield "accuracy", result.validation.accuracy


async def results_since(source: Source) -> list[LearningCycleResult]:
    """The finished cycles since the start of both periods, newest first."""
    rows = await source.store.cycles(source.tenant_id, limit=PAGE)
    while rows and rows[-1].started_at >= source.span.start and PAGE <= len(rows) < MAX_CYCLES:
        rows = await source.store.cycles(source.tenant_id, limit=2 * len(rows))
    return [row.result for row in rows if row.result is not None]
