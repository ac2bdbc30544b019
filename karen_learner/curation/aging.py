"""Examples whose intent has changed its meaning get the present intent, gold included.

The statements that changed the meaning count as corrections of the older texts, too. So the rules of
`resolution.py` set the gold label aside, and gold that is added again, or withdrawn consent, restores it.

A cycle trains on the present intents. They are stored when its candidate serves. A rejected candidate leaves
the examples as they are.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from asyncio_extras import call_in_executor

from karen_learner.concurrency import pages
from karen_learner.contracts import MemoryStore
from karen_learner.curation.examples import CORRECTION
from karen_learner.curation.meanings import ChangedMeaning, Said, changed_meanings, said_of
from karen_learner.curation.resolver import LabelResolver, NewContribution
from karen_learner.records import Contribution, CurationWrite, Example, ReadSet, Turn

logger = logging.getLogger(__name__)

RECENT_TURNS = 2_000
"""Number of newest turns in which meanings are compared with the model's."""
PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Outdated:
    """An example with the former intent, and `renewed` with the present one.

    `corrections` join the contributions to its text, whose `seq` are `known`.
    """

    example: Example
    renewed: Example
    known: tuple[int, ...]
    corrections: tuple[Contribution, ...]


async def outdated_examples(
    store: MemoryStore, tenant_id: str, *, quorum: int
) -> Mapping[str, Sequence[Outdated]]:
    """The examples that are older than the changed meaning of their intent, gold included.

    By a sentence for each intent with such examples. Texts whose people outvote the change are left out.
    """
    turns = await store.newest_turns(tenant_id, limit=RECENT_TURNS)
    changes: list[ChangedMeaning] = await call_in_executor(_changes, turns, quorum)
    found: dict[str, Sequence[Outdated]] = {}
    for change in changes:
        older = [one async for one in _older(store, tenant_id, change, quorum)]
        if older:
            found[
                f"{change.people} people say {change.present!r} for texts of {change.former!r}: "
                f"{len(older)} older examples of {change.former!r} become {change.present!r}"
            ] = older
    return found


async def store_renewed(
    store: MemoryStore,
    tenant_id: str,
    outdated: Iterable[Outdated],
    *,
    learned_in: str | None,
    token: int | None,
) -> None:
    """Store the present intents, as `learned_in` a version, or as pending. Raises FencedOut.

    An example that has changed since is left to the next cycle.
    """
    values = {"state": "learned" if learned_in else "pending", "learned_in": learned_in}
    count = 0
    async for page in pages(list(outdated), PAGE):
        keys = [one.example.key for one in page]
        examples, said = await store.examples_by_key(tenant_id, keys), await _numbers(store, tenant_id, keys)
        same = [
            one
            for one in page
            if _same(examples.get(one.example.key), one.example) and said[one.example.key] == one.known
        ]
        write = CurationWrite(
            upserts=[one.renewed.model_copy(update=values) for one in same],
            contributions=[each for one in same for each in one.corrections],
            read_set=ReadSet(
                examples={one.example.key: examples[one.example.key] for one in same},
                contributions={one.example.key: one.known for one in same},
            ),
        )
        if await store.save_curation(tenant_id, write, token=token):
            count += len(same)
    logger.warning("%s: %d examples get the present meaning of their intent", tenant_id, count)


async def _numbers(store: MemoryStore, tenant_id: str, keys: Sequence[str]) -> dict[str, tuple[int, ...]]:
    said = await store.contributions(tenant_id, keys)
    return {key: _seq(said.get(key, ())) for key in keys}


def _seq(said: Iterable[Contribution]) -> tuple[int, ...]:
    return tuple(each.seq or 0 for each in said)


def _same(now: Example | None, before: Example) -> bool:
    """Whether an example is unchanged but for the state, which the deployment changes."""
    state = {"state": before.state, "learned_in": before.learned_in}
    return now is not None and now.model_copy(update=state) == before


def _changes(turns: Sequence[Turn], quorum: int) -> list[ChangedMeaning]:
    return changed_meanings([one for turn in turns if (one := said_of(turn))], quorum=quorum)


async def _older(
    store: MemoryStore, tenant_id: str, change: ChangedMeaning, quorum: int
) -> AsyncIterator[Outdated]:
    async for page in pages(_examples(store, tenant_id, change.former), PAGE):
        said = await store.contributions(tenant_id, [one.key for one in page])
        older = [one for one in page if _is_older(one, said.get(one.key, ()), change)]
        for one in await call_in_executor(_renewed, older, said, change, quorum):
            yield one


async def _examples(store: MemoryStore, tenant_id: str, intent: str) -> AsyncIterator[Example]:
    """The learned and pending examples of an intent, which is their stratum."""
    counts = await store.strata(tenant_id, state="learned")
    for one in await store.sample_learned(tenant_id, intent, limit=counts.get(intent, 0)):
        yield one
    async for one in store.examples(tenant_id, state="pending"):
        if one.intent == intent:
            yield one


def _is_older(example: Example, said: Sequence[Contribution], change: ChangedMeaning) -> bool:
    """Whether no person has given the intent to the text since the change."""
    times = [each.occurred_at for each in said if each.intent == change.former]
    return max(times, default=example.created_at) < change.since


def _renewed(
    older: Sequence[Example],
    said: Mapping[str, Sequence[Contribution]],
    change: ChangedMeaning,
    quorum: int,
) -> list[Outdated]:
    """The examples that the statements give the present intent. The people of a text may outvote them."""
    resolver = LabelResolver({one.key: one for one in older}, said, quorum=quorum)
    resolver.resolve_all([_correction(each, one) for one in older for each in change.statements])
    contributions = resolver.contributions()
    return [
        Outdated(
            example=one,
            renewed=renewed,
            known=_seq(said.get(one.key, ())),
            corrections=tuple(each for each in contributions[one.key] if each.seq is None),
        )
        for one in older
        if (renewed := resolver.examples[one.key]).state == "pending" and renewed.intent == change.present
    ]


def _correction(said: Said, example: Example) -> NewContribution:
    """The statement about a text of the former intent, applied to another one."""
    labels = {"intent": said.stated, "sentiment": None, "entities": None, "unannotated": ()}
    origin = {"source": "correction", "quality": CORRECTION, "user_id": said.person, "turn_id": said.turn_id}
    return NewContribution.of(example.model_copy(update={**labels, **origin}), said.at)
