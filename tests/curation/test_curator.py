"""Curation against the real store."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
import spacy
from spacy.language import Language

from karen_learner.contracts import MemoryStore
from karen_learner.curation import Curator
from karen_learner.curation.selection import REPLAY_POOL
from karen_learner.errors import FencedOut
from karen_learner.records import (
    CurationCounts,
    CurationWrite,
    Example,
    LabelledText,
    ModelVersion,
    Promotion,
    Turn,
    UserFeedback,
    utc_now,
)
from karen_learner.settings import Settings
from tests.curation.specimens import SCHEMA, turn

TENANT = "acme"


@pytest.fixture
async def taught(store: MemoryStore) -> MemoryStore:
    """A store with a label schema for the tenant."""
    await store.declare_labels(TENANT, SCHEMA)  # type: ignore[arg-type]
    return store


def feedback_turn(text: str, *, user: str = "ann", turn_id: str | None = None, **feedback: Any) -> Turn:
    feedback = feedback or {"corrected_intent": "billing"}
    return turn(text, feedback=feedback, user_id=user, turn_id=turn_id or f"{user}: {text}")


async def collect(store: MemoryStore, turns: Iterable[Turn]) -> None:
    for each in turns:
        await store.add_turn(each)


async def all_examples(store: MemoryStore, state: Any) -> list[Example]:
    return [example async for example in store.examples(TENANT, state=state)]


async def promote(store: MemoryStore, learned: Iterable[Example], version: str = "v1") -> None:
    champion = await store.champion(TENANT)
    row = ModelVersion(
        tenant_id=TENANT,
        version=version,
        path=f"models/{version}",  # type: ignore[arg-type]
        digest="0",
        parent=None,
        cycle_id=None,
        created_at=utc_now(),
    )
    promotion = Promotion(
        version=row,
        expected=champion.version if champion else None,
        learned=list(learned),
    )
    assert await store.promote(TENANT, promotion, token=None)


WORDS = [
    "apple",
    "bread",
    "cheese",
    "dates",
    "eggs",
    "figs",
    "grapes",
    "honey",
    "ice",
    "juice",
    "kale",
    "lemon",
]


class TestCurate:
    async def test_every_kind_of_turn_is_counted(self, taught: MemoryStore, curator: Curator) -> None:
        await collect(
            taught,
            [
                feedback_turn("where is my bill"),
                feedback_turn("Where is my bill?", user="bob"),
                feedback_turn("where is my bill", user="cid", corrected_intent="refund"),
                feedback_turn("bread", corrected_intent="weather"),
                feedback_turn("cheese", satisfaction_score=0.2),
                feedback_turn("dates", comment="hm"),
                feedback_turn("eggs", satisfaction_score=1.0),
                turn("figs", feedback=None, turn_id="no feedback"),
                feedback_turn("grapes", consent=False, corrected_intent="refund"),
            ],
        )
        expected = CurationCounts(
            turns=7, accepted=2, merged=1, conflicts=1, quarantined=1, below_quality=1, unlabelled=1
        )

        assert await curator.preview(TENANT) == expected
        assert await curator.preview(TENANT) == expected
        assert await curator.curate(TENANT) == expected
        assert await curator.curate(TENANT) == CurationCounts()
        assert (await taught.counts(TENANT)).awaiting_curation == 0

    async def test_resolved_examples_are_stored(self, taught: MemoryStore, curator: Curator) -> None:
        await collect(
            taught,
            [
                feedback_turn("where is my bill"),
                feedback_turn("WHERE is my bill?", user="bob"),
                feedback_turn("x", corrected_intent="no"),
            ],
        )
        await curator.curate(TENANT)

        (example,) = await all_examples(taught, "pending")
        assert (example.text, example.intent, example.users) == ("where is my bill", "billing", 2)
        (quarantined,) = await all_examples(taught, "quarantined")
        assert quarantined.reason == "unknown label 'no' for intent"

    async def test_many_pages_count_as_one(
        self, taught: MemoryStore, curator: Curator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        turns = [feedback_turn(f"{name} {user}", user=user) for name in WORDS for user in ("ann", "bob")]
        turns += [feedback_turn(f"{name} ann", user="cid", corrected_intent="refund") for name in WORDS]
        await collect(taught, turns)
        save, saved = taught.save_curation, []

        async def noted(tenant_id: str, write: CurationWrite, **options: Any) -> bool:
            saved.append(len(write.curated))
            return await save(tenant_id, write, **options)

        monkeypatch.setattr(taught, "save_curation", noted)
        expected = await curator.preview(TENANT)
        assert await curator.curate(TENANT) == expected
        assert expected == CurationCounts(turns=36, accepted=24, conflicts=12)
        assert saved == [7, 7, 7, 7, 7, 1]

    async def test_a_preview_writes_nothing(self, taught: MemoryStore, curator: Curator) -> None:
        await collect(taught, [feedback_turn("where is my bill")])
        before = await taught.counts(TENANT)
        await curator.preview(TENANT)

        assert await taught.counts(TENANT) == before

    async def test_under_a_lost_lease_nothing_is_written(self, taught: MemoryStore, curator: Curator) -> None:
        await collect(taught, [feedback_turn("where is my bill")])
        lost = await taught.acquire_lease(TENANT, "host/1/a", ttl=timedelta(seconds=60))
        assert lost is not None
        await taught.release_lease(lost)
        held = await taught.acquire_lease(TENANT, "host/1/b", ttl=timedelta(seconds=60))
        assert held is not None

        with pytest.raises(FencedOut):
            await curator.curate(TENANT, token=lost.token)
        assert await all_examples(taught, "pending") == []
        assert (await curator.curate(TENANT, token=held.token)).accepted == 1

    async def test_an_interrupted_curation_continues_after_its_last_page(
        self, taught: MemoryStore, curator: Curator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await collect(taught, [feedback_turn(name, user=user) for name in WORDS for user in ("ann", "bob")])
        save, saved = taught.save_curation, []

        async def interrupted(tenant_id: str, write: CurationWrite, **options: Any) -> bool:
            if saved:
                raise KeyboardInterrupt
            saved.append(write)
            return await save(tenant_id, write, **options)

        with monkeypatch.context() as patch:
            patch.setattr(taught, "save_curation", interrupted)
            with pytest.raises(KeyboardInterrupt):
                await curator.curate(TENANT)
        rest = await curator.curate(TENANT)
        assert rest.turns == 24 - 7
        assert {example.users for example in await all_examples(taught, "pending")} == {2}

    async def test_a_withdrawn_rating_quarantines_its_example(
        self, taught: MemoryStore, curator: Curator
    ) -> None:
        await collect(taught, [feedback_turn("apple", satisfaction_score=1.0, turn_id="t1")])
        await curator.curate(TENANT)
        await taught.add_feedback(TENANT, "t1", UserFeedback(satisfaction_score=0.1))

        assert await curator.preview(TENANT) == CurationCounts(turns=1, below_quality=1)
        await curator.curate(TENANT)
        assert await all_examples(taught, "pending") == []
        assert [example.reason for example in await all_examples(taught, "quarantined")] == ["withdrawn"]

    async def test_a_later_correction_of_a_turn_replaces_its_rating(
        self, taught: MemoryStore, curator: Curator
    ) -> None:
        await collect(taught, [feedback_turn("apple", satisfaction_score=1.0, turn_id="t1")])
        await curator.curate(TENANT)
        await promote(taught, await all_examples(taught, "pending"))
        await taught.add_feedback(TENANT, "t1", UserFeedback(corrected_intent="refund"))
        await curator.curate(TENANT)

        (example,) = await all_examples(taught, "pending")
        assert (example.intent, example.sentiment, example.users) == ("refund", None, 1)
        assert await all_examples(taught, "learned") == []

    async def test_a_later_page_resolves_a_conflict(self, taught: MemoryStore, curator: Curator) -> None:
        await collect(
            taught, [feedback_turn("apple"), feedback_turn("apple", user="bob", corrected_intent="refund")]
        )
        await curator.curate(TENANT)
        assert len(await all_examples(taught, "conflict")) == 1

        await collect(taught, [feedback_turn("apple", user="cid", corrected_intent="refund")])
        assert (await curator.curate(TENANT)).accepted == 1
        (example,) = await all_examples(taught, "pending")
        assert (example.intent, example.users) == ("refund", 2)

    async def test_a_text_with_withdrawn_consent_can_be_annotated_again(
        self, taught: MemoryStore, curator: Curator
    ) -> None:
        await collect(taught, [feedback_turn("apple", turn_id="t1")])
        await curator.curate(TENANT)
        await taught.add_feedback(TENANT, "t1", UserFeedback(consent=False))
        await collect(taught, [feedback_turn("apple", user="bob", corrected_intent="refund")])
        await curator.curate(TENANT)

        (example,) = await all_examples(taught, "pending")
        assert (example.text, example.intent, example.users, example.user_id) == ("apple", "refund", 1, "bob")

    async def test_a_second_vote_is_withdrawn_with_its_consent(
        self, taught: MemoryStore, curator: Curator
    ) -> None:
        await collect(
            taught, [feedback_turn("apple", turn_id="t1"), feedback_turn("Apple!", user="bob", turn_id="t2")]
        )
        await curator.curate(TENANT)
        await promote(taught, await all_examples(taught, "pending"))
        await taught.add_feedback(TENANT, "t2", UserFeedback(consent=False))

        (example,) = await all_examples(taught, "learned")
        assert (example.text, example.users, example.quality) == ("apple", 1, 0.95)
        assert await taught.contributors(TENANT, [example.key]) == {example.key: ("ann",)}

    async def test_an_example_stands_on_the_text_of_another_person(
        self, taught: MemoryStore, curator: Curator
    ) -> None:
        await collect(
            taught, [feedback_turn("apple", turn_id="t1"), feedback_turn("Apple!", user="bob", turn_id="t2")]
        )
        await curator.curate(TENANT)
        (before,) = await all_examples(taught, "pending")
        await taught.add_feedback(TENANT, "t1", UserFeedback(consent=False))

        (example,) = await all_examples(taught, "pending")
        assert (example.text, example.turn_id, example.user_id, example.users) == ("Apple!", "t2", "bob", 1)
        assert example.example_id == before.example_id

    async def test_withdrawn_consent_ends_a_conflict(self, taught: MemoryStore, curator: Curator) -> None:
        await collect(
            taught,
            [
                feedback_turn("apple", turn_id="t1"),
                feedback_turn("apple", user="bob", turn_id="t2", corrected_intent="refund"),
            ],
        )
        await curator.curate(TENANT)
        await taught.add_feedback(TENANT, "t1", UserFeedback(consent=False))

        (example,) = await all_examples(taught, "pending")
        assert (example.intent, example.user_id, example.reason) == ("refund", "bob", None)

    async def test_consent_withdrawn_while_a_page_is_curated_removes_its_votes(
        self, taught: MemoryStore, curator: Curator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await collect(
            taught, [feedback_turn("apple", turn_id="t1"), feedback_turn("Apple", user="bob", turn_id="t2")]
        )
        save = taught.save_curation

        async def late(*args: Any, **options: Any) -> bool:
            await taught.add_feedback(TENANT, "t1", UserFeedback(consent=False))
            return await save(*args, **options)

        monkeypatch.setattr(taught, "save_curation", late)
        await curator.curate(TENANT)
        (example,) = await all_examples(taught, "pending")
        assert (example.text, example.users, example.user_id) == ("Apple", 1, "bob")

    async def test_a_page_is_repeated_if_another_process_adds_a_vote(
        self, taught: MemoryStore, curator: Curator, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await curator.add_gold(TENANT, [LabelledText(text="apple", intent="billing")])
        await collect(taught, [feedback_turn("apple", corrected_intent="refund")])
        save, saved = taught.save_curation, []

        async def late(*args: Any, **options: Any) -> bool:
            if not saved:
                saved.append(False)
                await collect(taught, [feedback_turn("apple", user="bob", corrected_intent="refund")])
                await Curator(taught, settings).curate(TENANT)
            saved.append(await save(*args, **options))
            return saved[-1]

        monkeypatch.setattr(taught, "save_curation", late)
        await curator.curate(TENANT)
        (example,) = await all_examples(taught, "pending")
        assert await taught.contributors(TENANT, [example.key]) == {example.key: ("bob", "ann")}
        assert len((await taught.contributions(TENANT, [example.key]))[example.key]) == 3
        assert saved[0] is False
        assert saved.count(False) == 2  # the first save of the page failed

    async def test_tenants_are_separate(self, taught: MemoryStore, curator: Curator) -> None:
        await collect(taught, [feedback_turn("apple")])

        assert await curator.curate("other") == CurationCounts()


class TestSelect:
    async def test_incremental_selects_pending_examples_and_replays_learned_ones(
        self, store: MemoryStore, settings: Settings
    ) -> None:
        settings.learning.update({"replay_examples": 2, "max_training_examples": 3})
        curator = Curator(store, settings)
        await curator.add_gold(TENANT, [LabelledText(text=name, intent="billing") for name in WORDS])
        await promote(store, (await curator.select(TENANT, mode="full")).new)
        await collect(store, [feedback_turn(f"{name} again") for name in WORDS])
        await curator.curate(TENANT)

        selection = await curator.select(TENANT, mode="incremental")
        assert len(selection.new) == 3
        assert {example.state for example in selection.new} == {"pending"}
        learned = sum((await store.strata(TENANT, state="learned")).values())
        assert len(selection.replay) == 2 * REPLAY_POOL < learned
        assert selection.importance_weights is not None
        assert sum(selection.importance_weights) == pytest.approx(learned)
        assert {example.state for example in selection.replay} == {"learned"}

    async def test_full_selects_all_examples(self, store: MemoryStore, curator: Curator) -> None:
        await curator.add_gold(TENANT, [LabelledText(text=name, intent="billing") for name in WORDS])
        first = await curator.select(TENANT, mode="full")
        await promote(store, first.new)
        again = await curator.select(TENANT, mode="full")

        assert first.replay == again.new == ()
        assert sorted(example.text for example in first.new) == WORDS
        assert sorted(example.text for example in again.replay) == WORDS

    async def test_full_is_balanced_above_its_limit(self, store: MemoryStore, settings: Settings) -> None:
        settings.learning.update({"max_full_examples": 4})
        curator = Curator(store, settings)
        texts = [LabelledText(text=name, intent="billing") for name in WORDS[:-2]]
        texts += [LabelledText(text=name, intent="refund") for name in WORDS[-2:]]
        await curator.add_gold(TENANT, texts)

        new = (await curator.select(TENANT, mode="full")).new
        assert sorted(example.intent or "" for example in new) == ["billing", "billing", "refund", "refund"]

    async def test_without_examples_nothing_is_selected(self, curator: Curator) -> None:
        for mode in ("incremental", "full"):
            selection = await curator.select(TENANT, mode=mode)  # type: ignore[arg-type]
            assert (selection.new, selection.replay) == ((), ())


async def test_the_curator_does_not_keep_the_tokenizers_of_former_models(
    store: MemoryStore, settings: Settings
) -> None:
    served = spacy.blank("xx")

    async def tokenizers(_: str) -> Language:
        return served

    curator = Curator(store, settings, tokenizers=tokenizers)
    aligner = await curator.aligner(TENANT)
    assert await curator.aligner(TENANT) is aligner
    former, served = weakref.ref(served), spacy.blank("xx")
    assert await curator.aligner(TENANT) is not aligner
    del aligner
    gc.collect()
    assert former() is None
