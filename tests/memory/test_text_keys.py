"""Keys of the former version of `text_identity` are recomputed when a store opens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.curation.folds import group_mask
from karen_learner.memory import SqlMemoryStore, open_store, text_keys
from karen_learner.memory.text_keys import _former_group, _former_key
from karen_learner.records import DUPLICATE, Contribution, CurationWrite, Example, Promotion
from karen_learner.settings import StoreSettings
from karen_learner.text_identity import example_id, group_key, text_key
from tests.databases import execute
from tests.memory.counters_of_rows import counted, gathered, scanned
from tests.memory.memory_specimens import NOON, make_example, make_turn, make_version

TENANT = "acme"


def former_gold(text: str, **values: Any) -> Example:
    """An example as the former release stored it."""
    key = _former_key(text)
    known = {"text": text, "source": "seed", "key": key, "group": _former_group(text), "quality": 1.0}
    return make_example(example_id(key=key, turn_id=None), **known | values)


def said(text: str, turn_id: str | None = None, **values: Any) -> Contribution:
    source = "seed" if turn_id is None else "correction"
    user = None if turn_id is None else f"user of {turn_id}"
    known = {
        "text": text, "key": _former_key(text), "intent": "billing", "source": source, "quality": 0.95,
        "turn_id": turn_id, "user_id": user, "occurred_at": NOON,
    }  # fmt: skip
    return Contribution(**known | values)


async def saved(
    place: Path | str,
    settings: StoreSettings,
    examples: Sequence[Example],
    contributions: Sequence[Contribution] = (),
) -> None:
    """A database of the former version with these rows; all examples are learned."""
    async with open_store(place, settings) as store:
        for each in contributions:
            if each.turn_id is not None:
                await store.add_turn(make_turn(each.turn_id, text=each.text))
        write = CurationWrite(upserts=examples, contributions=contributions)
        assert await store.save_curation(TENANT, write)
        masks = {group_mask(example.group): 0b101 for example in examples}
        promotion = Promotion(
            version=make_version("v1"), expected=None, learned=examples, masks=masks, generation="g1"
        )
        assert await store.promote(TENANT, promotion, token=None)
    await execute(place, "DELETE FROM properties")


async def all_examples(store: SqlMemoryStore) -> dict[str, Example]:
    """All examples by text."""
    states = ("pending", "learned", "conflict", "quarantined")
    found = [each for state in states for each in await gathered(store.examples(TENANT, state=state))]
    assert await counted(store, TENANT) == await scanned(store, TENANT)
    return {example.text: example for example in found}


async def test_keys_and_ids_of_learned_gold_are_recomputed(
    shared: Path | str, store_settings: StoreSettings
) -> None:
    texts = ["thanks :)", "it is -5 outside", "Where is my bill?", "soft\u00adware"]
    await saved(shared, store_settings, list(map(former_gold, texts)), list(map(said, texts)))
    async with open_store(shared, store_settings) as store:
        found = await all_examples(store)
        for text in texts:
            assert found[text].key == text_key(text)
            assert found[text].group == group_key(text)
            assert found[text].state == "learned"
            assert found[text].example_id == example_id(key=text_key(text), turn_id=None)
        keys = list(map(text_key, texts))
        assert set(await store.examples_by_key(TENANT, keys)) == set(keys)
        assert set(await store.contributions(TENANT, keys)) == set(keys)
        assert len([one async for one in store.lineage(TENANT, "v1")]) == len(texts)


async def test_masks_follow_their_groups(shared: Path | str, store_settings: StoreSettings) -> None:
    texts = ["it is :)", "soft\u00adware"]
    await saved(shared, store_settings, list(map(former_gold, texts)), list(map(said, texts)))
    assert all(group_key(text) != _former_group(text) for text in texts)
    names = [group_mask(group_key(text)) for text in texts]
    assert text_keys.GROUP_MASK.format("x") == group_mask("x")
    async with open_store(shared, store_settings) as store:
        assert await store.masks(TENANT, "g1", names) == dict.fromkeys(names, 0b101)


async def test_a_text_that_was_two_becomes_two_examples(
    shared: Path | str, store_settings: StoreSettings
) -> None:
    happy, sad = "thanks :)", "thanks :("
    both = [
        said(happy, intent=None, sentiment="positive"),
        said(sad, "t1", intent=None, sentiment="negative"),
    ]
    await saved(shared, store_settings, [former_gold(happy, intent=None, sentiment="positive")], both)
    async with open_store(shared, store_settings) as store:
        found = await all_examples(store)
        assert (found[happy].sentiment, found[happy].state) == ("positive", "learned")
        assert (found[sad].sentiment, found[sad].state) == ("negative", "pending")
        assert (found[sad].turn_id, found[sad].source) == ("t1", "correction")


async def test_an_example_loses_the_labels_of_the_other_text(
    shared: Path | str, store_settings: StoreSettings
) -> None:
    happy, sad = "thanks :)", "thanks :("
    example = former_gold(happy, intent="thank", sentiment="negative", source="correction", quality=0.9)
    contributions = [said(happy, "t1", intent="thank"), said(sad, "t2", intent=None, sentiment="negative")]
    await saved(shared, store_settings, [example], contributions)
    async with open_store(shared, store_settings) as store:
        found = await all_examples(store)
        assert (found[happy].intent, found[happy].sentiment) == ("thank", None)
        assert found[happy].state == "pending"
        assert found[sad].sentiment == "negative"


async def test_of_two_examples_of_one_text_the_newer_stays(
    shared: Path | str, store_settings: StoreSettings
) -> None:
    texts = ["software", "soft\u00adware"]
    await saved(shared, store_settings, list(map(former_gold, texts)), list(map(said, texts)))
    async with open_store(shared, store_settings) as store:
        found = await all_examples(store)
        assert (found[texts[0]].state, found[texts[0]].reason) == ("quarantined", DUPLICATE)
        assert found[texts[1]].state == "learned"
        assert (await store.examples_by_key(TENANT, [text_key(texts[0])]))[text_key(texts[0])] == found[
            texts[1]
        ]


async def test_ids_that_change_places_stay_apart(shared: Path | str, store_settings: StoreSettings) -> None:
    """The former id of one example is the new one of another."""
    texts = ["thanks :)", "thanks"]
    rows = [former_gold(texts[0]), former_gold("x").model_copy(update={"text": texts[1]})]
    rows[1] = rows[1].model_copy(update={"key": _former_key(texts[1]), "example_id": "ex-other"})
    await saved(shared, store_settings, rows)
    async with open_store(shared, store_settings) as store:
        found = await all_examples(store)
        assert len({found[text].example_id for text in texts}) == 2
        assert found["thanks"].example_id == "ex-other"


async def test_other_rows_and_a_second_opening_change_nothing(
    shared: Path | str, store_settings: StoreSettings
) -> None:
    rows = [make_example("e1"), former_gold("Where is my bill?"), former_gold("thanks :)")]
    await saved(shared, store_settings, rows)
    async with open_store(shared, store_settings) as store:
        found = await all_examples(store)
        for row in rows[:2]:
            kept = found[row.text]
            assert (kept.example_id, kept.key, kept.group) == (row.example_id, row.key, row.group)
        again = make_example("e9", text="thanks :(", key=_former_key("thanks :("))
        assert await store.save_curation(TENANT, CurationWrite(upserts=[again]))
        before = await all_examples(store)
    async with open_store(shared, store_settings) as store:
        assert await all_examples(store) == before


@pytest.mark.parametrize(("text", "key"), [("Where is my bill?", "1d6e1e5708828e2447bd9b79")])
def test_the_former_keys_are_those_of_the_former_release(text: str, key: str) -> None:
    assert _former_key(text) == key == text_key(text)
    assert _former_key("thanks :)") == _former_key("thanks :(") == _former_key("thanks")


@given(st.text("abc 019?!.", max_size=12))
def test_ordinary_texts_keep_their_keys(text: str) -> None:
    if "." not in text.lstrip(" ?!"):
        assert text_key(text) == _former_key(text)
        assert group_key(text) == _former_group(text)
