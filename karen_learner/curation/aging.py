"""Examples whose intent has changed its meaning are set aside, so that the new meaning is learned."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

from asyncio_extras import call_in_executor

from karen_learner.concurrency import pages
from karen_learner.contracts import MemoryStore
from karen_learner.curation.meanings import ChangedMeaning, changed_meanings, said_of
from karen_learner.records import (
    CHANGED_MEANING,
    KEPT_MEANING,
    Contribution,
    CurationWrite,
    Example,
    ReadSet,
    Turn,
)

logger = logging.getLogger(__name__)

RECENT_TURNS = 2_000
"""Number of newest turns in which meanings are compared with the model's."""
PAGE = 500


async def set_aside_changed(
    store: MemoryStore, tenant_id: str, *, quorum: int, token: int | None = None
) -> tuple[str, ...]:
    """Quarantine the examples that are older than the changed meaning of their intent, gold included.

    Examples that a person released stay. Returns a sentence for each intent with such examples. Raises
    FencedOut if the lease of `token` is lost.
    """
    turns = await store.newest_turns(tenant_id, limit=RECENT_TURNS)
    changes: list[ChangedMeaning] = await call_in_executor(_changes, turns, quorum)
    found: list[str] = []
    for change in changes:
        count = 0
        async for page in pages(_examples(store, tenant_id, change.former), PAGE):
            count += await _set_aside(store, tenant_id, change, page, token=token)
        if count:
            found.append(
                f"{change.people} people say {change.present!r} for texts of {change.former!r}: "
                f"{count} older examples of {change.former!r} are set aside"
            )
            logger.warning("%s: %s", tenant_id, found[-1])
    return tuple(found)


def _changes(turns: Sequence[Turn], quorum: int) -> list[ChangedMeaning]:
    return changed_meanings([one for turn in turns if (one := said_of(turn))], quorum=quorum)


async def _examples(store: MemoryStore, tenant_id: str, intent: str) -> AsyncIterator[Example]:
    """The learned and pending examples of an intent, which is their stratum."""
    counts = await store.strata(tenant_id, state="learned")
    for one in await store.sample_learned(tenant_id, intent, limit=counts.get(intent, 0)):
        yield one
    async for one in store.examples(tenant_id, state="pending"):
        if one.intent == intent:
            yield one


async def _set_aside(
    store: MemoryStore, tenant_id: str, change: ChangedMeaning, page: Sequence[Example], *, token: int | None
) -> int:
    """The number of examples of the page that were set aside; 0 if another process changed one of them."""
    said = await store.contributions(tenant_id, [one.key for one in page])
    outdated = [one for one in page if _is_outdated(one, said.get(one.key, ()), change)]
    write = CurationWrite(
        upserts=[
            one.model_copy(update={"state": "quarantined", "reason": CHANGED_MEANING}) for one in outdated
        ],
        read_set=ReadSet(
            examples={one.key: one for one in outdated},
            contributions={one.key: [each.seq or 0 for each in said.get(one.key, ())] for one in outdated},
        ),
    )
    saved = bool(outdated) and await store.save_curation(tenant_id, write, token=token)
    return len(outdated) if saved else 0


def _is_outdated(example: Example, said: Sequence[Contribution], change: ChangedMeaning) -> bool:
    """Whether nobody has given the intent to the text since the change."""
    times = [each.occurred_at for each in said if each.intent == change.former]
    return example.reason != KEPT_MEANING and max(times, default=example.created_at) < change.since
