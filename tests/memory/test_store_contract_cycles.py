"""What every memory store promises: the journal, leases, versions and the overview."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TypeVar

import pytest

from karen_learner.contracts import MemoryStore
from karen_learner.errors import FencedOut, InvalidInput, StoreError
from karen_learner.memory import owner_of
from karen_learner.records import Confusion, CurationWrite, Example, Promotion, UserFeedback, ValidationResult
from tests.memory.memory_specimens import (
    NOON,
    MovableClock,
    make_cycle,
    make_example,
    make_result,
    make_turn,
    make_version,
)

T = TypeVar("T")

TTL = timedelta(seconds=60)
ME = owner_of(os.getpid())


async def gathered(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


async def ids(examples: AsyncIterator[Example]) -> list[str]:
    return [example.example_id async for example in examples]


async def save(store: MemoryStore, *examples: Example, tenant: str = "acme") -> None:
    await store.save_curation(tenant, CurationWrite(upserts=examples))


async def take(store: MemoryStore, owner: str = ME, tenant: str = "acme") -> int:
    lease = await store.acquire_lease(tenant, owner, ttl=TTL)
    assert lease is not None
    return lease.token


class TestLeases:
    async def test_one_holder_at_a_time(self, store: MemoryStore) -> None:
        lease = await store.acquire_lease("acme", ME, ttl=TTL)
        assert lease is not None
        assert lease.expires_at == NOON + TTL
        assert await store.acquire_lease("acme", f"{ME}2", ttl=TTL) is None
        assert await store.acquire_lease("acme", ME, ttl=TTL) is None
        assert await store.acquire_lease("other", ME, ttl=TTL) is not None

    async def test_tokens_grow_with_each_holder(self, store: MemoryStore) -> None:
        tokens = []
        for _ in range(3):
            lease = await store.acquire_lease("acme", ME, ttl=TTL)
            assert lease is not None
            tokens.append(lease.token)
            await store.release_lease(lease)
            await store.release_lease(lease)
        assert tokens == sorted(set(tokens))

    async def test_expired_ones_can_be_taken(self, store: MemoryStore, clock: MovableClock) -> None:
        first = await store.acquire_lease("acme", "far/1/a", ttl=TTL)
        assert first is not None
        clock.move(59)
        assert await store.acquire_lease("acme", ME, ttl=TTL) is None
        clock.move(1)
        second = await store.acquire_lease("acme", ME, ttl=TTL)
        assert second is not None
        assert second.token > first.token
        with pytest.raises(FencedOut, match=ME):
            await store.renew_lease(first, ttl=TTL)
        await store.release_lease(first)
        assert await store.renew_lease(second, ttl=TTL)

    async def test_renewing_prolongs(self, store: MemoryStore, clock: MovableClock) -> None:
        lease = await store.acquire_lease("acme", "far/1/a", ttl=TTL)
        assert lease is not None
        clock.move(50)
        assert (await store.renew_lease(lease, ttl=TTL)).expires_at == clock() + TTL
        clock.move(50)
        assert await store.acquire_lease("acme", ME, ttl=TTL) is None

    async def test_a_released_lease_cannot_be_renewed(self, store: MemoryStore) -> None:
        lease = await store.acquire_lease("acme", ME, ttl=TTL)
        assert lease is not None
        await store.release_lease(lease)
        with pytest.raises(FencedOut, match="nobody"):
            await store.renew_lease(lease, ttl=TTL)

    async def test_a_dead_process_of_this_host_holds_nothing(self, store: MemoryStore) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ending:
            owner = owner_of(ending.pid)
        assert await store.acquire_lease("acme", owner, ttl=TTL)
        assert await store.acquire_lease("acme", ME, ttl=TTL)

    @pytest.mark.parametrize("owner", ["elsewhere/boot/ns/999999999/1/x", "elsewhere/1/x", "odd"])
    async def test_others_are_taken_to_be_alive(self, store: MemoryStore, owner: str) -> None:
        assert await store.acquire_lease("acme", owner, ttl=TTL)
        assert await store.acquire_lease("acme", ME, ttl=TTL) is None

    async def test_a_lease_alone_makes_no_tenant(self, store: MemoryStore) -> None:
        await take(store)
        assert await store.tenants() == []


class TestFencing:
    async def test_a_holder_may_write(self, store: MemoryStore) -> None:
        token = await take(store)
        await store.start_cycle(make_cycle(token=token))
        outcome = CurationWrite(upserts=[make_example()])
        await store.save_curation("acme", outcome, token=token)
        await store.advance_cycle("acme", "cycle-1", "training", token=token)
        await store.reject_examples("acme", [make_example()], harmful=False, quarantine_at=2, token=token)
        assert await store.promote("acme", Promotion(version=make_version(), expected=None), token=token)

    async def test_who_lost_the_lease_may_not(self, store: MemoryStore, clock: MovableClock) -> None:
        stale = await take(store, "far/1/a")
        await store.start_cycle(make_cycle(token=stale))
        turn = await store.add_turn(make_turn(feedback=UserFeedback(satisfaction_score=1)))
        clock.move(61)
        await take(store)
        outcome = CurationWrite(upserts=[make_example()], curated=[(turn.seq or 0, 0)])
        with pytest.raises(FencedOut):
            await store.save_curation("acme", outcome, token=stale)
        with pytest.raises(FencedOut):
            await store.advance_cycle("acme", "cycle-1", "training", token=stale)
        with pytest.raises(FencedOut):
            await store.reject_examples("acme", [make_example()], harmful=True, quarantine_at=2, token=stale)
        with pytest.raises(FencedOut):
            await store.promote("acme", Promotion(version=make_version(), expected=None), token=stale)
        assert await store.champion("acme") is None
        assert await gathered(store.examples("acme", state="pending")) == []
        assert (await store.counts("acme")).awaiting_curation == 1
        assert [row.stage for row in await store.cycles("acme")] == ["curating"]

    async def test_a_token_without_a_lease_is_fenced_out(self, store: MemoryStore) -> None:
        with pytest.raises(FencedOut):
            await store.save_curation("acme", CurationWrite(), token=1)


class TestJournal:
    async def test_follows_a_cycle(self, store: MemoryStore, clock: MovableClock) -> None:
        token = await take(store)
        row = make_cycle(token=token)
        await store.start_cycle(row)
        assert await store.unfinished_cycles("acme") == [row]
        await store.advance_cycle("acme", "cycle-1", "training", token=token)
        training = row.model_copy(update={"stage": "training"})
        assert await store.unfinished_cycles("acme") == [training]
        clock.move(9)
        result = make_result(validation=rich_validation(), stage_seconds={"training": 4.5})
        await store.finish_cycle("acme", "cycle-1", result)
        done = {"stage": "finished", "finished_at": clock(), "result": result}
        assert await store.cycles("acme") == [row.model_copy(update=done)]
        assert await store.unfinished_cycles("acme") == []

    async def test_tells_the_newest_first(self, store: MemoryStore) -> None:
        for n in range(5):
            await store.start_cycle(make_cycle(f"c{n}", tenant="acme" if n % 2 else "other"))
        assert [row.cycle_id for row in await store.cycles("acme")] == ["c3", "c1"]
        assert [row.cycle_id for row in await store.cycles(None, limit=3)] == ["c4", "c3", "c2"]
        assert [row.tenant_id for row in await store.cycles(None, limit=2)] == ["other", "acme"]

    async def test_keeps_one_line_for_a_cycle(self, store: MemoryStore) -> None:
        await store.start_cycle(make_cycle())
        with pytest.raises(InvalidInput, match="cycle-1"):
            await store.start_cycle(make_cycle())
        await store.start_cycle(make_cycle(tenant="other"))

    async def test_knows_only_cycles_that_were_started(self, store: MemoryStore) -> None:
        token = await take(store)
        with pytest.raises(StoreError, match="start_cycle"):
            await store.advance_cycle("acme", "cycle-1", "training", token=token)
        with pytest.raises(StoreError, match="start_cycle"):
            await store.finish_cycle("acme", "cycle-1", make_result())

    async def test_keeps_results_that_are_not_numbers(self, store: MemoryStore) -> None:
        await store.start_cycle(make_cycle())
        await store.finish_cycle("acme", "cycle-1", make_result(stage_seconds={"validating": float("inf")}))
        (row,) = await store.cycles("acme")
        assert row.result is not None
        assert row.result.stage_seconds == {"validating": float("inf")}

    async def test_sums_are_kept(self, store: MemoryStore) -> None:
        results = {
            "c1": make_result("c1", model_improved=True, stage_seconds={"training": 2.5}),
            "c2": make_result("c2", status="rejected", stage_seconds={"training": 1.5}),
            "c3": make_result("c3", status="skipped"),
        }
        for cycle_id, result in results.items():
            await store.start_cycle(make_cycle(cycle_id))
            await store.finish_cycle("acme", cycle_id, result)
        await store.start_cycle(make_cycle("running"))
        await store.start_cycle(make_cycle("c1", tenant="other"))
        await store.finish_cycle("other", "c1", make_result("c1", tenant="other", status="failed"))
        acme = {
            "total": 3,
            "deployed": 1,
            "rejected": 1,
            "skipped": 1,
            "improved": 1,
            "trained": 2,
            "training_seconds": 4.0,
        }
        assert await store.cycle_tallies("acme") == acme
        assert await store.cycle_tallies("other") == {"total": 1, "failed": 1}
        assert await store.cycle_tallies(None) == acme | {"total": 4, "failed": 1}
        assert await store.cycle_tallies("nobody") == {}
        assert (await store.counts("acme")).cycles == 4

    async def test_a_second_end_replaces_the_first(self, store: MemoryStore) -> None:
        await store.start_cycle(make_cycle())
        await store.finish_cycle("acme", "cycle-1", make_result(status="failed"), stage="interrupted")
        await store.finish_cycle("acme", "cycle-1", make_result(status="rolled_back"))
        assert await store.cycle_tallies("acme") == {"total": 1, "rolled_back": 1}


def rich_validation() -> ValidationResult:
    scores = ("accuracy", "precision", "recall", "f1_score", "intent_accuracy", "sentiment_accuracy")
    return ValidationResult(
        **dict.fromkeys(scores, 1 / 3),
        entity_accuracy=None,
        passed_threshold=False,
        counts={"intent": 7},
        intervals={"accuracy": (0.1, 0.9)},
        errors=(Confusion(task="intent", gold="a", predicted="b", count=2, texts=("x",)),),
    )


async def learn_in(
    store: MemoryStore, version: str, parent: str | None, names: list[str], replayed: Sequence[str] = ()
) -> None:
    """A version that is the next champion, with the examples that are new to it."""
    trained = [make_example(name) for name in names]
    await save(store, *trained)
    promotion = Promotion(
        version=make_version(version, parent=parent), expected=parent, learned=trained, replayed=replayed
    )
    assert await store.promote("acme", promotion, token=None)


async def switch(store: MemoryStore, version: str, before: str) -> None:
    """Make a version champion again."""
    target = await store.get_version("acme", version)
    assert target is not None
    assert await store.promote("acme", Promotion(version=target, expected=before), token=None)


async def learned_in(store: MemoryStore) -> dict[str, str | None]:
    found = await gathered(store.examples("acme", state="learned"))
    return {example.example_id: example.learned_in for example in found}


class TestVersions:
    async def test_numbers_are_given_once(self, store: MemoryStore) -> None:
        assert [await store.next_version_number("acme") for _ in range(3)] == [1, 2, 3]
        assert await store.next_version_number("other") == 1

    async def test_a_promotion_changes_everything_at_once(self, store: MemoryStore) -> None:
        await save(store, *(make_example(f"e{n}") for n in range(4)), make_example("old", state="learned"))
        promotion = Promotion(
            version=make_version(),
            expected=None,
            learned=[make_example(f"e{n}") for n in range(3)],
            replayed=["old", "missing"],
        )
        assert await store.promote("acme", promotion, token=None)
        assert await store.champion("acme") == make_version()
        assert await store.get_version("acme", "v1") == make_version()
        learned = await gathered(store.examples("acme", state="learned"))
        assert {example.example_id: example.learned_in for example in learned} == {
            "e0": "v1",
            "e1": "v1",
            "e2": "v1",
            "old": None,
        }
        assert await gathered(store.lineage("acme", "v1")) == ["e0", "e1", "e2", "old"]
        assert await store.strata("acme", state="learned", split="train") == {"billing": 4}
        assert (await store.counts("acme")).pending_train == 1
        assert await store.tenants() == ["acme"]

    async def test_the_wrong_champion_changes_nothing(self, store: MemoryStore) -> None:
        await save(store, make_example())
        first = Promotion(version=make_version(), expected=None)
        assert await store.promote("acme", first, token=None)
        for expected in (None, "v0"):
            late = Promotion(version=make_version("v2"), expected=expected, learned=[make_example()])
            assert not await store.promote("acme", late, token=None)
        assert await store.champion("acme") == make_version()
        assert await store.get_version("acme", "v2") is None
        assert (await store.counts("acme")).pending_train == 1

    async def test_rolling_back_promotes_a_version_that_exists(self, store: MemoryStore) -> None:
        for version, expected in (("v1", None), ("v2", "v1"), ("v1", "v2")):
            promotion = Promotion(version=make_version(version), expected=expected)
            assert await store.promote("acme", promotion, token=None)
        assert await store.champion("acme") == make_version("v1")
        assert [version.version for version in await store.versions("acme")] == ["v2", "v1"]
        assert [version.version for version in await store.versions("acme", limit=1)] == ["v2"]

    async def test_consent_withdrawn_during_training_stays_withdrawn(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn(feedback=UserFeedback(corrected_intent="refund")))
        mine = make_example("mine", turn_id="t1")
        await save(store, mine)
        await store.add_feedback("acme", "t1", UserFeedback(consent=False))
        promotion = Promotion(version=make_version(), expected=None, learned=[mine])
        assert await store.promote("acme", promotion, token=None)
        assert await gathered(store.examples("acme", state="learned")) == []
        assert await gathered(store.lineage("acme", "v1")) == ["mine"]

    async def test_what_was_relabelled_during_training_is_not_learned(self, store: MemoryStore) -> None:
        trained = [
            make_example("same"),
            make_example("intent"),
            make_example("mood"),
            make_example("spans", entities=((0, 4, "X"),)),
            make_example("text"),
        ]
        await save(store, *trained)
        await save(
            store,
            make_example("same", users=2, quality=0.95),  # somebody agreed: the label is what it was
            make_example("intent", intent="refund"),
            make_example("mood", sentiment="sad"),
            make_example("spans", entities=((0, 4, "Y"),)),
            make_example("text", text="text of ... something"),
        )
        promotion = Promotion(version=make_version(), expected=None, learned=trained)
        assert await store.promote("acme", promotion, token=None)
        assert await ids(store.examples("acme", state="learned")) == ["same"]
        assert await ids(store.examples("acme", state="pending")) == ["intent", "mood", "spans", "text"]
        assert len(await gathered(store.lineage("acme", "v1"))) == 5  # it was trained on all of them

    async def test_undoing_a_version_makes_what_it_learned_pending(self, store: MemoryStore) -> None:
        await learn_in(store, "v1", None, ["a", "b"])
        await learn_in(store, "v2", "v1", ["c"], replayed=["a"])
        await learn_in(store, "v3", "v2", ["d"], replayed=["b", "c"])
        before = await store.counts("acme")
        await switch(store, "v1", "v3")
        assert await learned_in(store) == {"a": "v1", "b": "v1"}
        assert await ids(store.examples("acme", state="pending")) == ["c", "d"]
        assert (before.pending_train, (await store.counts("acme")).pending_train) == (0, 2)
        assert await store.strata("acme", state="learned", split="train") == {"billing": 2}
        await learn_in(store, "v4", "v1", ["c"])
        await switch(store, "v3", "v4")  # another branch: `c` was learned in what is undone now
        assert await learned_in(store) == {"a": "v1", "b": "v1"}

    async def test_what_was_learned_before_a_version_stays_learned_when_it_is_undone(
        self, store: MemoryStore
    ) -> None:
        await save(store, make_example("imported", state="learned"))
        await learn_in(store, "v1", None, ["a"])
        await learn_in(store, "v2", "v1", [], replayed=["a", "imported"])
        await switch(store, "v1", "v2")
        assert await learned_in(store) == {"a": "v1", "imported": None}

    async def test_what_was_learned_anew_under_another_label_is_pending_when_that_is_undone(
        self, store: MemoryStore
    ) -> None:
        await learn_in(store, "v1", None, ["a"])
        relabelled = make_example("a", intent="refund")
        await save(store, relabelled)
        promotion = Promotion(version=make_version("v2", parent="v1"), expected="v1", learned=[relabelled])
        assert await store.promote("acme", promotion, token=None)
        await switch(store, "v1", "v2")
        (pending,) = await gathered(store.examples("acme", state="pending"))
        assert (pending.example_id, pending.intent, pending.learned_in) == ("a", "refund", None)

    async def test_a_switch_that_loses_the_race_undoes_nothing(self, store: MemoryStore) -> None:
        await learn_in(store, "v1", None, ["a"])
        await learn_in(store, "v2", "v1", ["b"])
        late = Promotion(version=make_version("v1"), expected="v0")
        assert not await store.promote("acme", late, token=None)
        assert await learned_in(store) == {"a": "v1", "b": "v2"}

    async def test_tenants_do_not_share_versions(self, store: MemoryStore) -> None:
        await store.promote("acme", Promotion(version=make_version(), expected=None), token=None)
        assert await store.champion("other") is None
        assert await store.get_version("other", "v1") is None
        assert await store.versions("other") == []
        assert await gathered(store.lineage("other", "v1")) == []

    async def test_many_examples_are_learned_at_once(self, store: MemoryStore) -> None:
        names = [f"e{n}" for n in range(1203)]
        trained = list(map(make_example, names))
        await save(store, *trained)
        await store.promote(
            "acme", Promotion(version=make_version(), expected=None, learned=trained), token=None
        )
        assert await gathered(store.lineage("acme", "v1")) == names
        assert (await store.counts("acme")).examples == {"learned": 1203}


async def hear(store: MemoryStore, *names: str, tenant: str = "acme") -> list[int]:
    """The numbers of new turns."""
    return [(await store.add_turn(make_turn(name, tenant=tenant))).seq or 0 for name in names]


class TestHeardTurns:
    async def test_are_told_by_the_version_that_learned_from_them(self, store: MemoryStore) -> None:
        numbers = await hear(store, "a", "b", "c", "d", "e")
        first = Promotion(
            version=make_version(), expected=None, pseudo_labelled=[*numbers[3::-1], numbers[0]]
        )
        assert await store.promote("acme", first, token=None)
        second = Promotion(
            version=make_version("v2", parent="v1"), expected="v1", pseudo_labelled=numbers[3:]
        )
        assert await store.promote("acme", second, token=None)
        assert await gathered(store.pseudo_labelled_turns("acme", "v1")) == ["a", "b", "c", "d"]
        assert await gathered(store.pseudo_labelled_turns("acme", "v2")) == ["d", "e"]
        assert await gathered(store.lineage("acme", "v1")) == []

    async def test_are_none_of_a_version_that_heard_none(self, store: MemoryStore) -> None:
        await hear(store, "a")
        await learn_in(store, "v1", None, ["e1"])
        assert await gathered(store.pseudo_labelled_turns("acme", "v1")) == []
        assert await gathered(store.pseudo_labelled_turns("acme", "v9")) == []

    async def test_are_not_written_for_the_wrong_champion(self, store: MemoryStore) -> None:
        numbers = await hear(store, "a", "b")
        first = Promotion(version=make_version(), expected=None, pseudo_labelled=numbers[:1])
        assert await store.promote("acme", first, token=None)
        for version in ("v1", "v2"):
            late = Promotion(version=make_version(version), expected="v0", pseudo_labelled=numbers)
            assert not await store.promote("acme", late, token=None)
        assert await gathered(store.pseudo_labelled_turns("acme", "v1")) == ["a"]
        assert await gathered(store.pseudo_labelled_turns("acme", "v2")) == []

    async def test_are_not_written_without_the_lease(self, store: MemoryStore) -> None:
        promotion = Promotion(version=make_version(), expected=None, pseudo_labelled=await hear(store, "a"))
        with pytest.raises(FencedOut):
            await store.promote("acme", promotion, token=1)
        assert await gathered(store.pseudo_labelled_turns("acme", "v1")) == []

    async def test_are_those_of_the_tenant(self, store: MemoryStore) -> None:
        theirs = await hear(store, "theirs", tenant="other")
        mine = await hear(store, "mine")
        promotion = Promotion(version=make_version(), expected=None, pseudo_labelled=[*theirs, *mine, 999])
        assert await store.promote("acme", promotion, token=None)
        assert await gathered(store.pseudo_labelled_turns("acme", "v1")) == ["mine"]
        assert await gathered(store.pseudo_labelled_turns("other", "v1")) == []

    async def test_stay_when_the_version_is_undone_and_restored(self, store: MemoryStore) -> None:
        await learn_in(store, "v1", None, [])
        second = Promotion(
            version=make_version("v2", parent="v1"), expected="v1", pseudo_labelled=await hear(store, "a")
        )
        assert await store.promote("acme", second, token=None)
        await switch(store, "v1", "v2")
        assert await gathered(store.pseudo_labelled_turns("acme", "v2")) == ["a"]
        await switch(store, "v2", "v1")
        assert await gathered(store.pseudo_labelled_turns("acme", "v2")) == ["a"]

    @pytest.mark.parametrize(
        "said", [UserFeedback(consent=False), UserFeedback(corrected_intent="x")], ids=["refusal", "label"]
    )
    async def test_stay_whatever_is_said_of_them_later(self, store: MemoryStore, said: UserFeedback) -> None:
        promotion = Promotion(version=make_version(), expected=None, pseudo_labelled=await hear(store, "a"))
        await store.add_feedback("acme", "a", said)  # during training
        assert await store.promote("acme", promotion, token=None)
        assert await gathered(store.pseudo_labelled_turns("acme", "v1")) == ["a"]

    async def test_may_be_many(self, store: MemoryStore) -> None:
        names = [f"t{n}" for n in range(1203)]
        promotion = Promotion(
            version=make_version(), expected=None, pseudo_labelled=await hear(store, *names)
        )
        assert await store.promote("acme", promotion, token=None)
        assert await gathered(store.pseudo_labelled_turns("acme", "v1")) == names


class TestOverview:
    async def test_counts(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn("a", degraded=True))
        await store.add_turn(make_turn("b", feedback=UserFeedback(corrected_intent="refund")))
        await store.add_turn(make_turn("c", feedback=UserFeedback(satisfaction_score=0.9)))
        await save(
            store, make_example("d"), make_example("e", split="holdout"), make_example("f", split="dev")
        )
        await store.start_cycle(make_cycle())
        counts = await store.counts("acme")
        assert counts.model_dump() == {
            "turns": 3,
            "with_feedback": 2,
            "corrections": 1,
            "awaiting_curation": 2,
            "examples": {"pending": 3},
            "pending_train": 1,
            "holdout": 1,
            "cycles": 1,
            "degraded": 1,
        }

    async def test_of_nobody_are_zero(self, store: MemoryStore) -> None:
        assert (await store.counts("nobody")).turns == 0
        assert await store.tenants() == []

    async def test_tenants_are_those_with_data(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn(tenant="b"))
        await save(store, make_example(), tenant="a")
        assert await store.tenants() == ["b", "a"]
