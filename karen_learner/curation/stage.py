"""The curation stage of a cycle: turns with feedback become a selection of examples."""

from __future__ import annotations

from dataclasses import dataclass

from karen_learner.curation.curator import Curator, Selection
from karen_learner.records import CurationCounts, CycleContext


@dataclass(frozen=True, kw_only=True)
class Curated:
    """Examples that a cycle trains on. `counts` are those of the turns that curation read."""

    cycle: CycleContext
    counts: CurationCounts
    selection: Selection


async def curate(curator: Curator, cycle: CycleContext) -> Curated:
    """Curate all turns that await it, then select examples. Raises FencedOut."""
    counts = await curator.curate(cycle.tenant_id, token=cycle.token)
    selection = await curator.select(cycle.tenant_id, mode=cycle.mode)
    return Curated(cycle=cycle, counts=counts, selection=selection)
