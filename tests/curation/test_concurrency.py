"""Concurrent curation and intake of gold, in one process and in two."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from karen_learner.contracts import MemoryStore
from karen_learner.curation import Curator
from karen_learner.errors import LabelCollision
from karen_learner.memory import open_store
from karen_learner.records import CurationWrite, Example, LabelledText, ReadSet, UserFeedback
from karen_learner.settings import Settings
from tests.curation.specimens import SCHEMA, turn

TENANT = "acme"


@pytest.fixture
async def stores(shared: Path | str, settings: Settings) -> AsyncIterator[tuple[MemoryStore, MemoryStore]]:
    """Two stores on one database, as in two processes."""
    async with open_store(shared, settings.store) as one, open_store(shared, settings.store) as other:
        await one.declare_labels(TENANT, SCHEMA)  # type: ignore[arg-type]
        yield one, other


async def add_correction(
    store: MemoryStore, text: str, *, user: str = "ann", intent: str = "billing"
) -> None:
    stored_turn = turn(text, feedback={"corrected_intent": intent}, user_id=user, turn_id=f"{user}: {text}")
    await store.add_turn(stored_turn)


def before_saving(store: MemoryStore, act: Callable[[], Awaitable[object]]) -> None:
    """Call `act` between the reads of this store and its next `save_curation`."""
    save = store.save_curation

    async def interrupted(*args: Any, **kwargs: Any) -> bool:
        store.save_curation = save  # type: ignore[method-assign]
        await act()
        return await save(*args, **kwargs)

    store.save_curation = interrupted  # type: ignore[method-assign]


async def rows(store: MemoryStore) -> list[Example]:
    found: list[Example] = []
    for state in ("pending", "learned", "conflict", "quarantined"):
        found += [one async for one in store.examples(TENANT, state=state)]  # type: ignore[arg-type]
    return found


# Between processes -------------------------------------------------------------------------------------


async def test_gold_added_during_a_page_of_feedback_wins(
    stores: tuple[MemoryStore, MemoryStore], settings: Settings
) -> None:
    cycle, ingest = stores
    await add_correction(cycle, "where is my money")
    gold = [{"text": "Where is my money?", "intent": "refund"}]
    before_saving(cycle, lambda: Curator(ingest, settings).add_gold(TENANT, gold))
    counts = await Curator(cycle, settings).curate(TENANT)
    (row,) = await rows(cycle)
    assert (row.intent, row.source) == ("refund", "seed")
    assert (counts.turns, counts.conflicts) == (1, 1)
    assert (await cycle.counts(TENANT)).awaiting_curation == 0


async def test_feedback_curated_during_a_page_of_gold_does_not_replace_it(
    stores: tuple[MemoryStore, MemoryStore], settings: Settings
) -> None:
    cycle, ingest = stores
    await add_correction(cycle, "where is my money")
    before_saving(ingest, lambda: Curator(cycle, settings).curate(TENANT))
    report = await Curator(ingest, settings).add_gold(
        TENANT, [{"text": "where is my money", "intent": "refund"}]
    )
    (row,) = await rows(cycle)
    assert (row.intent, row.source) == ("refund", "seed")
    assert (report.added, report.merged) == (1, 0)


async def test_a_label_that_two_processes_declare_for_two_tasks_is_refused(
    stores: tuple[MemoryStore, MemoryStore], settings: Settings
) -> None:
    one, other = stores
    declare = one.declare_labels

    async def late(*args: Any) -> None:
        await other.declare_labels(TENANT, {"sentiment": ["fine"]})
        await declare(*args)

    one.declare_labels = late  # type: ignore[method-assign]
    with pytest.raises(LabelCollision, match="'fine'"):
        await Curator(one, settings).add_gold(TENANT, [{"text": "all is well", "intent": "fine"}])
    assert "fine" not in (await one.labels(TENANT))["intent"]
    assert await rows(one) == []


async def test_many_pages_of_two_processes_at_once_lose_nothing(
    stores: tuple[MemoryStore, MemoryStore], settings: Settings
) -> None:
    cycle, ingest = stores
    texts = [f"question number {chr(97 + n // 26)}{chr(97 + n % 26)} please" for n in range(60)]
    for text in texts:
        await add_correction(cycle, text)
        await add_correction(cycle, text, user="bob")
    gold = [LabelledText(text=text, intent="refund") for text in texts[::2]]
    counts, report = await asyncio.gather(
        Curator(cycle, settings).curate(TENANT), Curator(ingest, settings).add_gold(TENANT, gold)
    )
    found = {row.text: row for row in await rows(cycle)}
    assert len(found) == len(await rows(cycle)) == len(texts)
    assert {text for text, row in found.items() if row.is_gold} == set(texts[::2])
    assert {row.intent for row in found.values() if row.is_gold} == {"refund"}
    assert Counter(row.users for row in found.values() if not row.is_gold) == {2: 30}
    assert (counts.turns, report.added) == (120, 30)


# The lock ---------------------------------------------------------------------------------------


async def test_a_slow_stream_of_gold_does_not_block_curation(store: MemoryStore, curator: Curator) -> None:
    await store.declare_labels(TENANT, SCHEMA)  # type: ignore[arg-type]
    await add_correction(store, "where is my money")
    asked, more = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[LabelledText]:
        asked.set()
        await more.wait()
        yield LabelledText(text="give it back", intent="refund")

    adding = asyncio.create_task(curator.add_gold(TENANT, slow()))
    await asked.wait()
    assert (await curator.curate(TENANT)).accepted == 1
    assert not adding.done()
    more.set()
    assert (await adding).added == 1


# The store --------------------------------------------------------------------------------------


async def test_a_write_needs_an_unchanged_read_set(store: MemoryStore) -> None:
    curator_row = LabelledText(text="hello", intent="greet")
    example = Example(
        **curator_row.model_dump(), example_id="e", source="rating", quality=1, key="k", group="g",
        stratum="greet",
    )  # fmt: skip
    nothing = ReadSet(examples={"k": None})
    write = CurationWrite(upserts=[example], read_set=nothing)
    assert await store.save_curation(TENANT, write)
    assert not await store.save_curation(TENANT, write)
    stored = (await store.examples_by_key(TENANT, ["k"]))["k"]
    changed = stored.model_copy(update={"intent": "ask"})
    for wrong in (
        ReadSet(examples={"k": None}),
        ReadSet(examples={"k": changed}),
        ReadSet(examples={"k": stored, "other": stored}),
        ReadSet(examples={"k": stored}, contributions={"k": [1]}),
    ):
        assert not await store.save_curation(TENANT, CurationWrite(upserts=[changed], read_set=wrong))
    assert (await store.examples_by_key(TENANT, ["k"]))["k"] == stored
    right = ReadSet(examples={"k": stored, "other": None}, contributions={"k": []})
    assert await store.save_curation(TENANT, CurationWrite(upserts=[changed], read_set=right))
    assert (await store.examples_by_key(TENANT, ["k"]))["k"].intent == "ask"


async def test_turns_that_were_not_saved_still_await_curation(store: MemoryStore) -> None:
    await store.add_turn(turn("hello", feedback={"satisfaction_score": 1.0}))
    ((seen,),) = [page async for page in store.turns_awaiting_curation(TENANT)]
    wrong = ReadSet(examples={}, contributions={"k": [1]})
    write = CurationWrite(curated=[seen.mark], read_set=wrong)
    assert not await store.save_curation(TENANT, write)
    await store.add_feedback(TENANT, seen.turn.turn_id, UserFeedback(satisfaction_score=0.9))
    await store.save_curation(TENANT, CurationWrite(curated=[seen.mark]))
    assert (await store.counts(TENANT)).awaiting_curation == 1  # its feedback is newer
