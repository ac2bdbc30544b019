"""Contract of every memory store: turns and examples. (The rest: `test_store_contract_cycles`.)"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest

from karen_learner.contracts import MemoryStore
from karen_learner.errors import InvalidInput, LearnerClosed, UnknownTurn
from karen_learner.records import (
    AwaitingTurn,
    Contribution,
    CurationWrite,
    EntitySpan,
    Example,
    ReadSet,
    Turn,
    UserFeedback,
)
from tests.memory.memory_specimens import make_contribution, make_example, make_turn

T = TypeVar("T")

LIKED = UserFeedback(satisfaction_score=0.9)
CORRECTED = UserFeedback(corrected_intent="refund", comment="I wanted my money back")


async def gathered(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


async def waiting(store: MemoryStore, tenant: str = "acme") -> list[str]:
    return [awaiting.turn.turn_id for awaiting in await awaiting_turns(store, tenant)]


async def awaiting_turns(store: MemoryStore, tenant: str = "acme") -> list[AwaitingTurn]:
    return [awaiting async for page in store.turns_awaiting_curation(tenant) for awaiting in page]


async def curate(store: MemoryStore, *curated: tuple[int, int], tenant: str = "acme") -> None:
    await store.save_curation(tenant, CurationWrite(curated=curated))


async def ids(examples: AsyncIterator[Example]) -> list[str]:
    return [example.example_id async for example in examples]


async def save(store: MemoryStore, *examples: Example, tenant: str = "acme") -> None:
    await store.save_curation(tenant, CurationWrite(upserts=examples))


class TestTurns:
    async def test_a_turn_is_stored_unchanged_with_a_number(self, store: MemoryStore) -> None:
        turn = make_turn(feedback=LIKED)
        stored = await store.add_turn(turn)
        assert stored == turn.model_copy(update={"seq": stored.seq})
        assert await store.get_turn("acme", "t1") == stored

    async def test_numbers_grow_over_all_tenants(self, store: MemoryStore) -> None:
        stored = [await store.add_turn(make_turn(f"t{n}", tenant=f"tenant{n % 2}")) for n in range(6)]
        numbers = [turn.seq for turn in stored]
        assert numbers == sorted(set(numbers))

    async def test_unknown_turns_are_none(self, store: MemoryStore) -> None:
        assert await store.get_turn("acme", "t1") is None
        await store.add_turn(make_turn())
        assert await store.get_turn("acme", "t2") is None
        assert await store.get_turn("other", "t1") is None

    async def test_are_read_in_order_in_pages(self, store: MemoryStore) -> None:
        stored = [await store.add_turn(make_turn(f"t{n}")) for n in range(8)]
        await store.add_turn(make_turn("other", tenant="other"))
        assert await gathered(store.turns("acme")) == stored
        assert await gathered(store.turns("acme", after_seq=stored[4].seq or 0)) == stored[5:]

    async def test_a_repeated_turn_is_stored_once(self, store: MemoryStore) -> None:
        first = await store.add_turn(make_turn())
        assert await store.add_turn(make_turn(text="something else")) == first
        assert (await store.counts("acme")).turns == 1

    async def test_feedback_of_a_repeated_turn_is_merged(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn(feedback=LIKED))
        merged = await store.add_turn(make_turn(text="something else", feedback=CORRECTED))
        assert merged.user_text == "pay my bill in Rome"
        assert merged.feedback == LIKED.merged_with(CORRECTED)
        assert await store.get_turn("acme", "t1") == merged

    async def test_concurrent_callers_with_repeats_store_each_turn_once(self, store: MemoryStore) -> None:
        turns = [make_turn(f"t{n % 40}", feedback=LIKED if n % 3 else None) for n in range(200)]
        stored = await asyncio.gather(*map(store.add_turn, turns))
        assert len({turn.seq for turn in stored}) == 40
        counts = await store.counts("acme")
        assert (counts.turns, counts.with_feedback, counts.awaiting_curation) == (40, 40, 40)

    @pytest.mark.parametrize(
        "turn",
        [
            make_turn().model_copy(update={"user_text": "\ud800"}),
            make_turn(turn_id="\udfff"),
            make_turn(linguistic_features={"x": float("nan")}),
            make_turn(linguistic_features={"x": float("inf")}),
        ],
        ids=["text", "id", "nan", "infinite"],
    )
    async def test_unstorable_turns_are_refused(self, store: MemoryStore, turn: Turn) -> None:
        with pytest.raises(InvalidInput):
            await store.add_turn(turn)
        assert await store.tenants() == []

    @pytest.mark.parametrize(
        "odd", ["a/b'c\"--;", "🧪" * 1100, "nul\0inside", "\0\1\0011\0010", "", "%_", " "]
    )
    async def test_any_text_is_an_id(self, store: MemoryStore, odd: str) -> None:
        await store.add_turn(make_turn(odd, tenant=odd))
        turn = await store.get_turn(odd, odd)
        assert turn is not None
        assert (turn.tenant_id, turn.turn_id) == (odd, odd)
        assert await store.tenants() == [odd]

    async def test_surrogates_in_ids_are_invalid_input(self, store: MemoryStore) -> None:
        with pytest.raises(InvalidInput):
            await store.get_turn("\ud800", "t1")
        with pytest.raises(InvalidInput):
            await store.add_feedback("acme", "\ud800", LIKED)


class TestFeedback:
    async def test_is_merged_and_updates_the_metadata(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn())
        await store.add_feedback("acme", "t1", UserFeedback(satisfaction_score=0.9, response_quality=0.7))
        turn = await store.add_feedback(
            "acme", "t1", UserFeedback(satisfaction_score=0.8, corrected_intent="x")
        )
        assert turn.feedback == UserFeedback(
            satisfaction_score=0.8, response_quality=0.7, corrected_intent="x"
        )
        assert turn.metadata.user_satisfaction == 0.8
        assert turn.metadata.response_quality == 0.7
        assert turn.metadata.feedback_provided
        assert turn.metadata.correction_needed
        assert await store.get_turn("acme", "t1") == turn

    async def test_confirmed_labels_need_no_correction(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn())
        spans = (EntitySpan(start=15, end=19, label="CITY"),)
        agreed = UserFeedback(corrected_intent="billing", corrected_entities=spans)
        assert not (await store.add_feedback("acme", "t1", agreed)).metadata.correction_needed

    async def test_no_entities_differs_from_unknown_entities(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn())
        turn = await store.add_feedback("acme", "t1", UserFeedback(corrected_entities=()))
        assert turn.feedback is not None
        assert turn.feedback.corrected_entities == ()

    @pytest.mark.parametrize("tenant", ["acme", "other", "nobody"])
    async def test_on_an_unknown_turn_is_an_error(self, store: MemoryStore, tenant: str) -> None:
        await store.add_turn(make_turn("here", tenant="other"))
        with pytest.raises(UnknownTurn, match="t1"):
            await store.add_feedback(tenant, "t1", LIKED)
        assert await store.tenants() == ["other"]

    async def test_of_concurrent_callers_is_merged(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn())
        parts = [
            LIKED,
            UserFeedback(response_quality=0.4),
            CORRECTED,
            UserFeedback(corrected_sentiment="sad"),
        ]
        await asyncio.gather(*(store.add_feedback("acme", "t1", part) for part in parts))
        turn = await store.get_turn("acme", "t1")
        assert turn is not None
        assert turn.feedback == UserFeedback(
            satisfaction_score=0.9,
            response_quality=0.4,
            corrected_intent="refund",
            corrected_sentiment="sad",
            comment=CORRECTED.comment,
        )

    async def test_may_be_submitted_together_with_its_turn(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn("before"))
        answers = await asyncio.gather(
            store.add_turn(make_turn()),
            store.add_feedback("acme", "t1", LIKED),
            store.add_feedback("acme", "missing", LIKED),
            return_exceptions=True,
        )
        assert isinstance(answers[1], Turn)
        assert isinstance(answers[2], UnknownTurn)
        assert await waiting(store) == ["t1"]


class TestAwaitingCuration:
    async def test_applies_to_turns_with_feedback_and_text(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn("silent"))
        await store.add_turn(make_turn("rated", feedback=LIKED))
        await store.add_turn(make_turn("wordless", text=None, feedback=LIKED))
        await store.add_turn(make_turn("refused", feedback=UserFeedback(consent=False)))
        await store.add_turn(make_turn("later"))
        await store.add_feedback("acme", "later", CORRECTED)
        assert await waiting(store) == ["rated", "later"]
        assert (await store.counts("acme")).awaiting_curation == 2

    async def test_is_read_in_pages_in_order(self, store: MemoryStore) -> None:
        stored = [await store.add_turn(make_turn(f"t{n}", feedback=LIKED)) for n in range(7)]
        pages = await gathered(store.turns_awaiting_curation("acme"))
        assert [len(page) for page in pages] == [3, 3, 1]
        assert [awaiting.turn for page in pages for awaiting in page] == stored
        rest = await gathered(store.turns_awaiting_curation("acme", after_seq=stored[3].seq or 0))
        assert [awaiting.turn for page in rest for awaiting in page] == stored[4:]

    async def test_excludes_curated_turns(self, store: MemoryStore) -> None:
        for n in range(4):
            await store.add_turn(make_turn(f"t{n}", feedback=LIKED))
        curated = [awaiting.mark for awaiting in (await awaiting_turns(store))[:2]]
        for _ in range(2):
            await curate(store, *curated)
        assert await waiting(store) == ["t2", "t3"]
        assert (await store.counts("acme")).awaiting_curation == 2

    async def test_pages_can_be_curated_while_they_are_read(self, store: MemoryStore) -> None:
        for n in range(8):
            await store.add_turn(make_turn(f"t{n}", feedback=LIKED))
        met = 0
        async for page in store.turns_awaiting_curation("acme"):
            met += len(page)
            await curate(store, *(awaiting.mark for awaiting in page))
        assert met == 8
        assert await waiting(store) == []

    async def test_new_feedback_makes_a_curated_turn_await_again(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn(feedback=LIKED))
        (awaiting,) = await awaiting_turns(store)
        await curate(store, awaiting.mark)
        await store.add_feedback("acme", "t1", LIKED)
        assert await waiting(store) == []  # repeated feedback changes nothing
        await store.add_feedback("acme", "t1", CORRECTED)
        assert await waiting(store) == ["t1"]

    async def test_feedback_during_curation_keeps_the_turn_awaiting(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn(feedback=LIKED))
        (before,) = await awaiting_turns(store)
        await store.add_feedback("acme", "t1", CORRECTED)
        (after,) = await awaiting_turns(store)
        assert after.revision > before.revision
        await curate(store, before.mark)
        assert await waiting(store) == ["t1"]
        await curate(store, after.mark)
        assert await waiting(store) == []

    async def test_turns_of_other_tenants_cannot_be_marked(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn(feedback=LIKED))
        (awaiting,) = await awaiting_turns(store)
        await curate(store, awaiting.mark, tenant="other")
        assert await waiting(store) == ["t1"]
        assert (await store.counts("acme")).awaiting_curation == 1
        assert (await store.counts("other")).awaiting_curation == 0


class TestExamples:
    async def test_are_stored_unchanged(self, store: MemoryStore) -> None:
        rich = make_example(
            "rich",
            sentiment="sad",
            entities=[[0, 4, "CITY"], [5, 6, "X"]],
            user_id="u1",
            turn_id="t1",
            users=2,
            draw=0.1 + 0.2,
            state="conflict",
            reason="two labels",
            quality=1 / 3,
        )
        none = make_example("none", intent=None, entities=())
        odd = make_example("odd", text="nul\0inside\1", intent="\0", turn_id="\1\0", draw=1e-300)
        await save(store, rich, none, odd)
        found = await store.examples_by_key("acme", ["key-rich", "key-none", "key-odd", "key-missing"])
        assert found == {
            "key-odd": odd.model_copy(update={"seq": found["key-odd"].seq}),
            "key-rich": rich.model_copy(update={"seq": found["key-rich"].seq}),
            "key-none": none.model_copy(update={"seq": found["key-none"].seq}),
        }

    async def test_are_replaced_with_the_same_number(self, store: MemoryStore) -> None:
        await save(store, make_example("a"), make_example("b"))
        await save(store, make_example("a", intent="refund", stratum="refund"))
        first, second = await gathered(store.examples("acme", state="pending"))
        assert (first.example_id, first.intent, second.example_id) == ("a", "refund", "b")

    async def test_the_last_of_two_with_one_id_is_stored(self, store: MemoryStore) -> None:
        await save(store, make_example("a"), make_example("a", intent="refund"))
        (only,) = await gathered(store.examples("acme", state="pending"))
        assert only.intent == "refund"
        assert (await store.counts("acme")).examples == {"pending": 1}

    async def test_are_read_in_order_by_state_and_kind(self, store: MemoryStore) -> None:
        gold = {1, 4, 7}
        sources = {True: "seed", False: "correction"}
        await save(store, *(make_example(f"e{n}", source=sources[n in gold]) for n in range(9)))
        await save(store, make_example("no", state="conflict"))
        read = store.examples
        everything = [f"e{n}" for n in range(9)]
        assert await ids(read("acme", state="pending")) == everything
        assert await ids(read("acme", state="pending", newest_first=True)) == everything[::-1]
        feedback = [f"e{n}" for n in range(9) if n not in gold]
        assert await ids(read("acme", state="pending", gold=False)) == feedback
        assert await ids(read("acme", state="pending", gold=True, newest_first=True)) == ["e7", "e4", "e1"]
        assert await ids(read("other", state="pending")) == []

    async def test_feedback_becomes_gold_by_a_review(self, store: MemoryStore) -> None:
        await save(store, make_example("a"), make_example("b"))
        await save(store, make_example("a", source="reviewed"))
        assert await ids(store.examples("acme", state="pending", gold=True)) == ["a"]
        assert await ids(store.examples("acme", state="pending", gold=False)) == ["b"]
        assert (await store.counts("acme")).gold == 1

    async def test_can_change_state_while_they_are_read(self, store: MemoryStore) -> None:
        await save(store, *(make_example(f"e{n}") for n in range(8)))
        met = []
        async for example in store.examples("acme", state="pending"):
            met.append(example.example_id)
            await save(store, example.model_copy(update={"state": "conflict"}))
        assert met == [f"e{n}" for n in range(8)]

    async def test_texts_are_read_by_id_until_they_are_removed(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn(feedback=LIKED))
        await save(store, make_example("a"), make_example("b", turn_id="t1"))
        wanted = ["a", "b", "missing", *(f"e{n}" for n in range(1200)), "a"]
        assert await store.example_texts("acme", wanted) == {"a": "text of a", "b": "text of b"}
        assert await store.example_texts("other", wanted) == await store.example_texts("acme", []) == {}
        await store.add_feedback("acme", "t1", UserFeedback(consent=False))
        assert await store.example_texts("acme", wanted) == {"a": "text of a"}

    async def test_are_read_by_id(self, store: MemoryStore) -> None:
        await save(store, make_example("a"), make_example("b", state="quarantined", reason="harmful"))
        found = await store.examples_by_id("acme", ["b", "missing", *(f"e{n}" for n in range(1200)), "a"])
        assert {name: one.state for name, one in found.items()} == {"a": "pending", "b": "quarantined"}
        assert await store.examples_by_id("other", ["a"]) == await store.examples_by_id("acme", []) == {}

    async def test_gold_groups_have_a_gold_example(self, store: MemoryStore) -> None:
        await save(
            store,
            make_example("a", group="g1", source="seed"),
            make_example("b", group="g1"),
            make_example("c", group="g2"),
            make_example("d", group="g3", source="reviewed", state="learned"),
            make_example("e", group="other", source="seed"),
        )
        wanted = ["g1", "g2", "g3", "g4", "g1", *(f"x{n}" for n in range(1200))]
        assert set(await store.gold_groups("acme", wanted)) == {"g1", "g3"}
        assert set(await store.gold_groups("acme", [])) == set()
        assert set(await store.gold_groups("other", wanted)) == set()

    async def test_sampling_wraps_around_in_order_of_draw(self, store: MemoryStore) -> None:
        learned = {"state": "learned", "learned_in": "v1"}
        await save(store, *(make_example(f"e{n}", draw=n / 10, **learned) for n in range(6)))
        await save(
            store,
            make_example("pending", draw=0.35),
            make_example("refund", draw=0.37, stratum="refund", **learned),
        )
        sample = store.sample_learned
        found = [example.example_id for example in await sample("acme", "billing", limit=4, from_draw=0.3)]
        assert found == ["e3", "e4", "e5", "e0"]
        found = [example.example_id for example in await sample("acme", "billing", limit=9, from_draw=0.9)]
        assert found == [f"e{n}" for n in range(6)]
        assert await sample("acme", "billing", limit=0) == []
        assert await sample("other", "billing", limit=5) == []

    async def test_sampling_of_gold_leaves_feedback_out(self, store: MemoryStore) -> None:
        sources = {0: "seed", 1: "reviewed", 2: "correction", 3: "rating"}
        await save(
            store,
            *(make_example(f"e{n}", draw=n / 10, source=sources[n % 4], state="learned") for n in range(8)),
            make_example("pending", draw=0.2, source="seed"),
        )
        sampled = await store.sample_learned("acme", "billing", limit=3, from_draw=0.3, gold_only=True)
        assert [example.example_id for example in sampled] == ["e4", "e5", "e0"]

    async def test_strata_are_counted(self, store: MemoryStore) -> None:
        await save(store, make_example("a"), make_example("b"), make_example("c", stratum="refund"))
        await save(store, make_example("d", source="seed"), make_example("c", stratum="billing"))
        await save(store, make_example("e", source="seed", stratum="refund"))
        assert await store.strata("acme", state="pending", gold=False) == {"billing": 3}
        assert await store.strata("acme", state="pending", gold=True) == {"billing": 1, "refund": 1}
        assert await store.strata("acme", state="pending") == {"billing": 4, "refund": 1}
        assert await store.strata("acme", state="learned") == {}

    async def test_many_keys_can_be_read(self, store: MemoryStore) -> None:
        await save(store, *(make_example(f"e{n}") for n in range(1203)))
        found = await store.examples_by_key("acme", [f"key-e{n}" for n in range(1300)])
        assert len(found) == 1203
        assert (await store.counts("acme")).examples == {"pending": 1203}


class TestLabels:
    async def test_are_those_of_gold_with_counts_of_all_examples(self, store: MemoryStore) -> None:
        await save(
            store,
            make_example("gold", source="seed", intent="billing", entities=[[0, 1, "X"], [2, 3, "X"]]),
            make_example("said", intent="billing", sentiment="sad"),
            make_example("unknown", intent="strange"),
            make_example("out", intent="billing", state="quarantined"),
        )
        assert await store.labels("acme") == {"intent": {"billing": 2}, "sentiment": {}, "entities": {"X": 1}}

    async def test_can_be_declared(self, store: MemoryStore) -> None:
        await save(store, make_example("said", intent="refund"))
        for _ in range(2):
            await store.declare_labels("acme", {"intent": ["refund", "cancel"], "sentiment": ["sad"]})
        assert await store.labels("acme") == {
            "intent": {"cancel": 0, "refund": 1},
            "sentiment": {"sad": 0},
            "entities": {},
        }
        assert await store.labels("other") == {"intent": {}, "sentiment": {}, "entities": {}}


class TestRejecting:
    async def test_harmful_rejections_quarantine_at_the_given_number(self, store: MemoryStore) -> None:
        await save(store, make_example("a"), make_example("b"))
        a, b, missing = make_example("a"), make_example("b"), make_example("missing")
        assert await store.reject_examples("acme", [a, a, missing], harmful=True, quarantine_at=2) == 0
        assert await store.reject_examples("acme", [a, b], harmful=True, quarantine_at=2) == 1
        (harmful,) = await gathered(store.examples("acme", state="quarantined"))
        assert (harmful.example_id, harmful.rejections, harmful.reason) == ("a", 2, "harmful")
        assert await ids(store.examples("acme", state="pending")) == ["b"]

    async def test_the_caller_decides_the_number(self, store: MemoryStore) -> None:
        await save(store, make_example("a"))
        trained = [make_example("a")]
        assert await store.reject_examples("acme", trained, harmful=True, quarantine_at=4) == 0
        assert await store.reject_examples("acme", trained, harmful=True, quarantine_at=3) == 0
        assert await store.reject_examples("acme", trained, harmful=True, quarantine_at=3) == 1

    async def test_gold_is_never_quarantined(self, store: MemoryStore) -> None:
        await save(store, make_example("a", source="seed"))
        assert await store.reject_examples("acme", [make_example("a")], harmful=True, quarantine_at=1) == 0

    async def test_without_harm_changes_nothing(self, store: MemoryStore) -> None:
        await save(store, make_example("a"))
        for _ in range(3):
            assert (
                await store.reject_examples("acme", [make_example("a")], harmful=False, quarantine_at=2) == 0
            )
        assert [example.rejections async for example in store.examples("acme", state="pending")] == [0]

    async def test_leaves_examples_that_were_relabelled_since(self, store: MemoryStore) -> None:
        await save(store, make_example("a", rejections=1), make_example("b", rejections=1))
        await save(store, make_example("b", intent="refund", rejections=1))
        trained = [make_example("a"), make_example("b")]
        assert await store.reject_examples("acme", trained, harmful=True, quarantine_at=2) == 1
        (left,) = await gathered(store.examples("acme", state="pending"))
        assert (left.example_id, left.intent, left.rejections) == ("b", "refund", 1)

    async def test_leaves_examples_that_are_not_pending(self, store: MemoryStore) -> None:
        await save(store, make_example("a", state="learned", rejections=1))
        assert await store.reject_examples("acme", [make_example("a")], harmful=True, quarantine_at=2) == 0


class TestRecentTexts:
    async def test_are_distinct_and_newest_first(self, store: MemoryStore) -> None:
        for number, text in enumerate(["old", "same", "nul\0", None, "same", "new"]):
            await store.add_turn(make_turn(f"t{number}", text=text))
        await store.add_turn(make_turn("t9", tenant="other", text="elsewhere"))
        assert list(await store.recent_texts("acme", limit=9)) == ["new", "same", "nul\0", "old"]
        assert list(await store.recent_texts("acme", limit=1)) == ["new"]
        assert list(await store.recent_texts("nobody", limit=9)) == []

    async def test_removed_texts_are_left_out(self, store: MemoryStore) -> None:
        for name in ("t1", "t2"):
            await store.add_turn(make_turn(name, text=f"text of {name}", feedback=LIKED))
        await store.add_feedback("acme", "t2", UserFeedback(consent=False))
        assert list(await store.recent_texts("acme", limit=9)) == ["text of t1"]


class TestContributions:
    async def contribute(self, store: MemoryStore, *new: Contribution) -> None:
        assert await store.save_curation("acme", CurationWrite(contributions=new))

    async def test_are_read_by_text_in_order(self, store: MemoryStore) -> None:
        spans = (EntitySpan(start=0, end=4, label="X"),)
        new = [
            make_contribution("t1", entities=spans, sentiment="neutral"),
            make_contribution("t2", entities=(), intent=None, key="other", reason="unknown label"),
            make_contribution(None, source="seed", user_id=None),
        ]
        await self.contribute(store, *new)
        found = await store.contributions("acme", ["k", "other", "missing"])
        stored = [*found["k"], *found["other"]]
        assert [each.model_copy(update={"seq": None}) for each in stored] == [new[0], new[2], new[1]]
        assert found.keys() == {"k", "other"}
        assert [each.seq for each in found["k"]] == sorted(each.seq or 0 for each in found["k"])
        assert await gathered(store.unusable_contributions("acme")) == [[found["other"][0]]]
        assert await store.contributions("other", ["k"]) == {}

    async def test_people_are_listed_once(self, store: MemoryStore) -> None:
        await self.contribute(
            store,
            make_contribution("t1", user_id="ann"),
            make_contribution("t2", user_id=None),
            make_contribution("t3", user_id="ann"),
            make_contribution(None, source="seed", user_id=None),
            make_contribution("t4", user_id="bob", source="reviewed", key="other"),
            make_contribution(None, source="seed", user_id=None, key="nobody"),
        )
        keys = ["k", "other", "nobody", *(f"k{n}" for n in range(1200))]
        expected = {"k": ("ann", "turn:t2"), "other": ("bob",)}
        assert await store.contributors("acme", keys) == expected
        assert await store.contributors("elsewhere", keys) == {}

    async def test_are_replaced_only_if_they_are_unchanged(self, store: MemoryStore) -> None:
        await self.contribute(store, make_contribution("t1"))
        (old,) = (await store.contributions("acme", ["k"]))["k"]
        assert old.seq is not None
        new = make_contribution("t2")
        for numbers, is_written in (
            ([], False),
            ([old.seq, 9], False),
            ([old.seq], True),
            ([old.seq], False),
        ):
            read = ReadSet(examples={}, contributions={"k": numbers, "missing": []})
            write = CurationWrite(contributions=[new], replaced=[old.seq], read_set=read)
            assert await store.save_curation("acme", write) == is_written
        (left,) = (await store.contributions("acme", ["k"]))["k"]
        assert left.turn_id == "t2"

    async def test_withdrawn_consent_deletes_those_of_the_turn(self, store: MemoryStore) -> None:
        for name in ("t1", "t2"):
            await store.add_turn(make_turn(name, feedback=LIKED))
        await self.contribute(store, make_contribution("t1"), make_contribution("t2"))
        await store.add_feedback("acme", "t1", UserFeedback(consent=False))
        assert await store.contributors("acme", ["k"]) == {"k": ("user of t2",)}
        await self.contribute(store, make_contribution("t1", key="later"))
        assert await store.contributions("acme", ["later"]) == {}


class TestLifecycle:
    async def test_start_and_close_are_idempotent(self, store: MemoryStore) -> None:
        await store.start()
        await store.add_turn(make_turn())
        for _ in range(2):
            await store.close()
        with pytest.raises(LearnerClosed):
            await store.add_turn(make_turn())
        with pytest.raises(LearnerClosed):
            await store.counts("acme")
        with pytest.raises(LearnerClosed):
            await save(store, make_example())
        with pytest.raises(LearnerClosed):
            await store.start()

    async def test_closing_writes_queued_turns(self, store: MemoryStore) -> None:
        adding = [asyncio.ensure_future(store.add_turn(make_turn(f"t{n}"))) for n in range(50)]
        await asyncio.sleep(0)
        await store.close()
        assert len({turn.seq for turn in await asyncio.gather(*adding)}) == 50
