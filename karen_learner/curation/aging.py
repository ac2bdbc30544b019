"""Examples whose intent has changed its meaning: a cycle trains without them, so that the new one is learned.

They are set aside when such a candidate becomes the champion. A rejected candidate leaves them as they are.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

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


async def outdated_examples(
    store: MemoryStore, tenant_id: str, *, quorum: int
) -> Mapping[str, Sequence[Example]]:
    """The examples that are older than the changed meaning of their intent, gold included.

    By a sentence for each intent with such examples. Those that a person released are left out.
    """
    turns = await store.newest_turns(tenant_id, limit=RECENT_TURNS)
    changes: list[ChangedMeaning] = await call_in_executor(_changes, turns, quorum)
    found: dict[str, Sequence[Example]] = {}
    for change in changes:
        older = [one async for one in _older(store, tenant_id, change)]
        if older:
            found[
                f"{change.people} people say {change.present!r} for texts of {change.former!r}: "
                f"{len(older)} older examples of {change.former!r} are left out"
            ] = older
    return found


async def set_aside(
    store: MemoryStore, tenant_id: str, outdated: Iterable[Example], *, token: int | None = None
) -> int:
    """Quarantine examples that are learned or pending; their number. Raises FencedOut.

    An example that has changed since is left to the next cycle.
    """
    count = 0
    async for page in pages(list(outdated), PAGE):
        present = await store.examples_by_key(tenant_id, [one.key for one in page])
        same = [
            now
            for one in page
            if (now := present.get(one.key))
            and now.model_copy(update={"state": one.state, "learned_in": one.learned_in}) == one
        ]
        aside = {"state": "quarantined", "reason": CHANGED_MEANING}
        write = CurationWrite(
            upserts=[one.model_copy(update=aside) for one in same],
            read_set=ReadSet(examples={one.key: one for one in same}),
        )
        if await store.save_curation(tenant_id, write, token=token):
            count += len(same)
    logger.warning("%s: %d examples with a former meaning of their intent are set aside", tenant_id, count)
    return count


def _changes(turns: Sequence[Turn], quorum: int) -> list[ChangedMeaning]:
    return changed_meanings([one for turn in turns if (one := said_of(turn))], quorum=quorum)


async def _older(store: MemoryStore, tenant_id: str, change: ChangedMeaning) -> AsyncIterator[Example]:
    async for page in pages(_examples(store, tenant_id, change.former), PAGE):
        said = await store.contributions(tenant_id, [one.key for one in page])
        for one in page:
            if _is_outdated(one, said.get(one.key, ()), change):
                yield one


async def _examples(store: MemoryStore, tenant_id: str, intent: str) -> AsyncIterator[Example]:
    """The learned and pending examples of an intent, which is their stratum."""
    counts = await store.strata(tenant_id, state="learned")
    for one in await store.sample_learned(tenant_id, intent, limit=counts.get(intent, 0)):
        yield one
    async for one in store.examples(tenant_id, state="pending"):
        if one.intent == intent:
            yield one


def _is_outdated(example: Example, said: Sequence[Contribution], change: ChangedMeaning) -> bool:
    """Whether no person has given the intent to the text since the change."""
    times = [each.occurred_at for each in said if each.intent == change.former]
    return example.reason != KEPT_MEANING and max(times, default=example.created_at) < change.since
