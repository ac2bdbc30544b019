"""The training of the strategy chooser on events (`model_type` `agent_selection`)."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from karen_learner.autonomy.strategies.knowledge import StrategyKnowledge
from karen_learner.autonomy.stream.events import score_of
from karen_learner.contracts import InboxStore
from karen_learner.curation.selection import Sampler
from karen_learner.records import RetrainingResult
from karen_learner.records.strategies import StrategyTally
from karen_learner.records.stream import InboxEvent, StreamEvent

MODEL_TYPE = "agent_selection"
INCREMENTAL_EVENTS = 100
FEW_EVENTS = 50
"""Events below which a training warns."""
CANDIDATES = 1_000
"""The newest events among which the sampler selects."""
DEFAULT_DOMAIN = "default"
"""The domain of events without one."""


async def teach_chooser(
    store: InboxStore,
    knowledge: StrategyKnowledge,
    tenant_id: str,
    *,
    reason: str,
    buffer: Sequence[InboxEvent] | None,
    sampler: Sampler,
    half_life_s: float,
) -> RetrainingResult:
    """Learn up to 100 recent events that are not learned yet.

    With a `buffer`, forget all attempts and learn the events of the buffer. An event without success counts
    by its score or rating. `message` warns of fewer than 50 events. Raises StoreError.
    """
    started = time.perf_counter()
    if buffer is None:
        events = _selected(await store.newest_events(tenant_id, limit=CANDIDATES, state="ready"), sampler)
    else:
        events = buffer
    used = await store.learn_events(
        tenant_id, tallies_of(events), half_life_s=half_life_s, reset=buffer is not None
    )
    await knowledge.sync()
    few = f"only {used} events: the choice of a strategy needs {FEW_EVENTS} or more"
    return RetrainingResult(
        success=used > 0,
        model_type=MODEL_TYPE,
        retrain_type="none" if not used else "incremental" if buffer is None else "full",
        events_processed=used,
        duration_ms=1000.0 * (time.perf_counter() - started),
        reason=reason,
        message=few if used < FEW_EVENTS else None,
    )


def tallies_of(events: Sequence[InboxEvent]) -> list[tuple[int, StrategyTally]]:
    """The attempts of events with a result, each with the number of its event."""
    return [(one.seq, _tally(one, rate)) for one in events if (rate := _rate(one.event)) is not None]


def _selected(events: Sequence[InboxEvent], sampler: Sampler) -> Sequence[InboxEvent]:
    """Up to `INCREMENTAL_EVENTS` events with the highest priorities."""

    def priority(one: InboxEvent) -> tuple[float, int]:
        draw = random.Random(one.key).random()  # noqa: S311 - a repeatable draw, no secret
        return sampler(one.at.timestamp(), draw), one.seq

    return sorted(events, key=priority, reverse=True)[:INCREMENTAL_EVENTS]


def _rate(event: StreamEvent) -> float | None:
    """The success of an event, 0 to 1; None if it has none."""
    if event.success is not None:
        return float(event.success)
    score = score_of(event)
    return event.rating if score is None else score


def _tally(one: InboxEvent, rate: float) -> StrategyTally:
    return StrategyTally(
        kind="attempts",
        domain=one.event.domain or DEFAULT_DOMAIN,
        name=one.event.chosen,
        counts={"success": rate, "failure": 1.0 - rate},
        at=one.at,
    )
