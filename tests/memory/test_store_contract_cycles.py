"""Contract of every memory store: journal, leases, versions, aliases and overview."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from karen_learner.contracts import MemoryStore
from karen_learner.errors import FencedOut, InvalidInput, StoreError
from karen_learner.memory import owner_of
from karen_learner.records import (
    PROVISIONAL,
    Confusion,
    CurationWrite,
    Example,
    Outcome,
    Promotion,
    UserFeedback,
    ValidationResult,
    VersionCounts,
)
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
    async def test_a_lease_has_one_holder_at_a_time(self, store: MemoryStore) -> None:
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

    async def test_an_expired_lease_can_be_acquired(self, store: MemoryStore, clock: MovableClock) -> None:
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

    async def test_the_time_of_a_clock_without_a_time_zone_is_utc(
        self, store: MemoryStore, clock: MovableClock
    ) -> None:
        clock.now = NOON.replace(tzinfo=None)
        assert await store.acquire_lease("acme", "far/1/a", ttl=TTL)
        assert await store.acquire_lease("acme", ME, ttl=TTL) is None
        clock.move(60)
        assert await store.acquire_lease("acme", ME, ttl=TTL)

    async def test_renewing_moves_the_expiry(self, store: MemoryStore, clock: MovableClock) -> None:
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
        with pytest.raises(FencedOut, match="no process"):
            await store.renew_lease(lease, ttl=TTL)

    async def test_a_dead_process_of_this_machine_holds_no_lease(self, store: MemoryStore) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ending:
            owner = owner_of(ending.pid)
        assert await store.acquire_lease("acme", owner, ttl=TTL)
        assert await store.acquire_lease("acme", ME, ttl=TTL)

    @pytest.mark.parametrize("owner", ["elsewhere/boot/ns/999999999/1/x", "elsewhere/1/x", "odd"])
    async def test_other_processes_count_as_alive(self, store: MemoryStore, owner: str) -> None:
        assert await store.acquire_lease("acme", owner, ttl=TTL)
        assert await store.acquire_lease("acme", ME, ttl=TTL) is None

    async def test_leases_of_different_names_are_independent(self, store: MemoryStore) -> None:
        cycle = await store.acquire_lease("acme", ME, ttl=TTL)
        report = await store.acquire_lease("acme", ME, name="report", ttl=TTL)
        assert cycle is not None
        assert report is not None
        assert (cycle.name, report.name) == ("cycle", "report")
        assert await store.acquire_lease("acme", ME, name="report", ttl=TTL) is None
        await store.release_lease(report)
        with pytest.raises(FencedOut, match="report"):
            await store.renew_lease(report, ttl=TTL)
        assert await store.renew_lease(cycle, ttl=TTL)
        again = await store.acquire_lease("acme", ME, name="report", ttl=TTL)
        assert again is not None
        assert again.token == report.token + 1

    async def test_a_lease_of_another_name_fences_no_cycle(self, store: MemoryStore) -> None:
        other = await store.acquire_lease("acme", ME, name="report", ttl=TTL)
        assert other is not None
        with pytest.raises(FencedOut, match="cycle"):
            await store.save_curation("acme", CurationWrite(), token=other.token)

    async def test_a_lease_alone_makes_no_tenant(self, store: MemoryStore) -> None:
        await take(store)
        assert await store.tenants() == []


class TestFencing:
    async def test_the_holder_may_write(self, store: MemoryStore) -> None:
        token = await take(store)
        await store.start_cycle(make_cycle(token=token))
        write = CurationWrite(upserts=[make_example()])
        await store.save_curation("acme", write, token=token)
        await store.advance_cycle("acme", "cycle-1", "training", token=token)
        await store.reject_examples("acme", [make_example()], harmful=False, quarantine_at=2, token=token)
        assert await store.promote("acme", Promotion(version=make_version(), expected=None), token=token)

    async def test_a_former_holder_may_not_write(self, store: MemoryStore, clock: MovableClock) -> None:
        stale = await take(store, "far/1/a")
        await store.start_cycle(make_cycle(token=stale))
        turn = await store.add_turn(make_turn(feedback=UserFeedback(satisfaction_score=1)))
        clock.move(61)
        await take(store)
        write = CurationWrite(upserts=[make_example()], curated=[(turn.seq or 0, 0)])
        with pytest.raises(FencedOut):
            await store.save_curation("acme", write, token=stale)
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
        assert [await store.cycle("acme", row.cycle_id) for row in await store.cycles("acme")] == (
            await store.cycles("acme")
        )
        assert await store.cycle("acme", "missing") is None
        assert await store.cycle("other", (await store.cycles("acme"))[0].cycle_id) is None

    async def test_a_token_without_a_lease_is_fenced_out(self, store: MemoryStore) -> None:
        with pytest.raises(FencedOut):
            await store.save_curation("acme", CurationWrite(), token=1)


class TestJournal:
    async def test_records_the_stages_of_a_cycle(self, store: MemoryStore, clock: MovableClock) -> None:
        token = await take(store)
        row = make_cycle(token=token)
        await store.start_cycle(row)
        (started,) = await store.unfinished_cycles("acme")
        assert started.seq is not None
        row = row.model_copy(update={"seq": started.seq})
        assert started == row
        await store.advance_cycle("acme", "cycle-1", "training", token=token)
        training = row.model_copy(update={"stage": "training"})
        assert await store.unfinished_cycles("acme") == [training]
        clock.move(9)
        result = make_result(validation=rich_validation(), stage_seconds={"training": 4.5})
        await store.finish_cycle("acme", "cycle-1", result)
        done = {"stage": "finished", "finished_at": clock(), "result": result}
        assert await store.cycles("acme") == [row.model_copy(update=done)]
        assert await store.unfinished_cycles("acme") == []

    async def test_lists_the_newest_first(self, store: MemoryStore) -> None:
        for n in range(5):
            await store.start_cycle(make_cycle(f"c{n}", tenant="acme" if n % 2 else "other"))
        assert [row.cycle_id for row in await store.cycles("acme")] == ["c3", "c1"]
        assert [row.cycle_id for row in await store.cycles(None, limit=3)] == ["c4", "c3", "c2"]
        assert [row.tenant_id for row in await store.cycles(None, limit=2)] == ["other", "acme"]

    async def test_can_be_read_on_from_a_number(self, store: MemoryStore) -> None:
        for n in range(5):
            await store.start_cycle(make_cycle(f"c{n}", tenant="acme" if n % 2 else "other"))
        first = await store.cycles(None, since=0, limit=3)
        assert [row.cycle_id for row in first] == ["c0", "c1", "c2"]
        rest = await store.cycles(None, since=first[-1].seq)
        assert [row.cycle_id for row in rest] == ["c3", "c4"]
        assert [row.cycle_id for row in await store.cycles("acme", since=first[1].seq)] == ["c3"]
        assert await store.cycles("acme", since=rest[-1].seq) == []

    async def test_lists_the_tenants_with_unfinished_cycles(self, store: MemoryStore) -> None:
        assert await store.unfinished_tenants() == []
        for tenant in ("b", "a", "done"):
            for cycle in ("c1", "c2"):
                await store.start_cycle(make_cycle(cycle, tenant=tenant))
        for cycle in ("c1", "c2"):
            await store.finish_cycle("done", cycle, make_result(cycle, tenant="done"))
        assert await store.unfinished_tenants() == ["b", "a"]

    async def test_has_one_row_for_a_cycle(self, store: MemoryStore) -> None:
        await store.start_cycle(make_cycle())
        with pytest.raises(InvalidInput, match="cycle-1"):
            await store.start_cycle(make_cycle())
        await store.start_cycle(make_cycle(tenant="other"))

    async def test_rejects_cycles_that_were_not_started(self, store: MemoryStore) -> None:
        token = await take(store)
        with pytest.raises(StoreError, match="start_cycle"):
            await store.advance_cycle("acme", "cycle-1", "training", token=token)
        with pytest.raises(StoreError, match="start_cycle"):
            await store.finish_cycle("acme", "cycle-1", make_result())

    async def test_keeps_numbers_that_are_not_finite(self, store: MemoryStore) -> None:
        await store.start_cycle(make_cycle())
        await store.finish_cycle("acme", "cycle-1", make_result(stage_seconds={"validating": float("inf")}))
        (row,) = await store.cycles("acme")
        assert row.result is not None
        assert row.result.stage_seconds == {"validating": float("inf")}

    async def test_sums_equal_those_of_the_results(self, store: MemoryStore) -> None:
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

    async def test_a_second_result_replaces_the_first(self, store: MemoryStore) -> None:
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
        errors=(Confusion(task="intent", gold="a", predicted="b", count=2, example_ids=("e1",)),),
    )


async def learn_in(
    store: MemoryStore,
    version: str,
    parent: str | None,
    names: list[str],
    replayed: Sequence[str] = (),
    *,
    tenant: str = "acme",
    **values: Any,
) -> None:
    """Promote a version that learned these examples."""
    trained = [make_example(name, **values) for name in names]
    await save(store, *trained, tenant=tenant)
    promotion = Promotion(
        version=make_version(version, tenant=tenant, parent=parent),
        expected=parent,
        learned=trained,
        replayed=replayed,
    )
    assert await store.promote(tenant, promotion, token=None)


async def switch(store: MemoryStore, version: str, before: str) -> None:
    """Promote an existing version."""
    target = await store.get_version("acme", version)
    assert target is not None
    assert await store.promote("acme", Promotion(version=target, expected=before), token=None)


async def waiting(store: MemoryStore) -> dict[str, str | None]:
    """The reasons of quarantined examples by id."""
    found = await gathered(store.examples("acme", state="quarantined"))
    return {example.example_id: example.reason for example in found}


async def learned_in(store: MemoryStore) -> dict[str, str | None]:
    found = await gathered(store.examples("acme", state="learned"))
    return {example.example_id: example.learned_in for example in found}


class TestVersions:
    async def test_version_numbers_are_unique(self, store: MemoryStore) -> None:
        assert [await store.next_version_number("acme") for _ in range(3)] == [1, 2, 3]
        assert await store.next_version_number("other") == 1

    async def test_a_promotion_is_one_transaction(self, store: MemoryStore) -> None:
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
        assert await store.strata("acme", state="learned") == {"billing": 4}
        assert (await store.counts("acme")).examples["pending"] == 1
        assert await store.tenants() == ["acme"]

    async def test_an_unexpected_champion_changes_nothing(self, store: MemoryStore) -> None:
        await save(store, make_example())
        first = Promotion(version=make_version(), expected=None)
        assert await store.promote("acme", first, token=None)
        for expected in (None, "v0"):
            late = Promotion(version=make_version("v2"), expected=expected, learned=[make_example()])
            assert not await store.promote("acme", late, token=None)
        assert await store.champion("acme") == make_version()
        assert await store.get_version("acme", "v2") is None
        assert (await store.counts("acme")).examples["pending"] == 1

    async def test_a_rollback_promotes_an_existing_version(self, store: MemoryStore) -> None:
        for version, expected in (("v1", None), ("v2", "v1"), ("v1", "v2")):
            promotion = Promotion(version=make_version(version), expected=expected)
            assert await store.promote("acme", promotion, token=None)
        assert await store.champion("acme") == make_version("v1")
        assert [version.version for version in await store.versions("acme")] == ["v2", "v1"]
        assert [version.version for version in await store.versions("acme", limit=1)] == ["v2"]

    async def test_versions_can_be_read_on_from_a_version(self, store: MemoryStore) -> None:
        for n in range(1, 5):
            promotion = Promotion(version=make_version(f"v{n}"), expected=f"v{n - 1}" if n > 1 else None)
            assert await store.promote("acme", promotion, token=None)
        found = await store.versions("acme", since="v1", limit=2)
        assert [version.version for version in found] == ["v2", "v3"]
        assert [version.version for version in await store.versions("acme", since="v3")] == ["v4"]
        assert await store.versions("acme", since="v4") == []
        assert await store.versions("acme", since="unknown") == []

    async def test_other_aliases_change_by_compare_and_set(self, store: MemoryStore) -> None:
        await learn_in(store, "v1", None, ["a"])
        await learn_in(store, "v2", "v1", ["b"])
        shadow = Promotion(version=make_version("v3"), expected=None, alias="shadow")
        assert await store.promote("acme", shadow, token=None)
        assert not await store.promote("acme", shadow, token=None)
        assert await store.alias("acme", "shadow") == make_version("v3")
        again = Promotion(version=make_version("v4"), expected="v3", alias="shadow")
        assert await store.promote("acme", again, token=None)
        assert await store.alias("acme", "shadow") == make_version("v4")
        champion = await store.champion("acme")
        assert champion == await store.alias("acme", "champion") == make_version("v2", parent="v1")
        assert await store.alias("acme", "unknown") is None
        assert await store.alias("other", "shadow") is None
        assert await learned_in(store) == {"a": "v1", "b": "v2"}  # nothing was undone

    async def test_consent_withdrawn_during_training_stays_withdrawn(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn(feedback=UserFeedback(corrected_intent="refund")))
        mine = make_example("mine", turn_id="t1")
        await save(store, mine)
        await store.add_feedback("acme", "t1", UserFeedback(consent=False))
        promotion = Promotion(version=make_version(), expected=None, learned=[mine])
        assert await store.promote("acme", promotion, token=None)
        assert await gathered(store.examples("acme", state="learned")) == []
        assert await gathered(store.lineage("acme", "v1")) == ["mine"]

    async def test_examples_relabelled_during_training_are_not_learned(self, store: MemoryStore) -> None:
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
            make_example("same", users=2, quality=0.95),  # another user agreed: the label is unchanged
            make_example("intent", intent="refund"),
            make_example("mood", sentiment="sad"),
            make_example("spans", entities=((0, 4, "Y"),)),
            make_example("text", text="text of ... something"),
        )
        promotion = Promotion(version=make_version(), expected=None, learned=trained)
        assert await store.promote("acme", promotion, token=None)
        assert await ids(store.examples("acme", state="learned")) == ["same"]
        assert await ids(store.examples("acme", state="pending")) == ["intent", "mood", "spans", "text"]
        assert len(await gathered(store.lineage("acme", "v1"))) == 5  # lineage holds all trained examples

    async def test_examples_of_an_undone_version_wait_until_it_is_champion_again(
        self, store: MemoryStore
    ) -> None:
        await learn_in(store, "v1", None, ["a", "b"])
        await learn_in(store, "v2", "v1", ["c"], replayed=["a"])
        await learn_in(store, "v3", "v2", ["d"], replayed=["b", "c"])
        assert [await store.count_undone("acme", version) for version in ("v1", "v2", "v3")] == [2, 1, 0]
        await switch(store, "v1", "v3")
        assert await learned_in(store) == {"a": "v1", "b": "v1"}
        assert await waiting(store) == {"c": "rolled back", "d": "rolled back"}
        counts = await store.counts("acme")
        assert (counts.examples.get("pending", 0), counts.waiting) == (0, 2)
        assert await store.strata("acme", state="learned") == {"billing": 2}
        await learn_in(store, "v4", "v1", ["e"])
        await switch(store, "v2", "v4")  # another branch
        assert await learned_in(store) == {"a": "v1", "b": "v1", "c": "v2"}
        assert await waiting(store) == {"d": "rolled back", "e": "rolled back"}
        await switch(store, "v3", "v2")
        assert await learned_in(store) == {"a": "v1", "b": "v1", "c": "v2", "d": "v3"}
        await switch(store, "v4", "v3")
        assert await learned_in(store) == {"a": "v1", "b": "v1", "e": "v4"}

    async def test_waiting_examples_are_released_once(self, store: MemoryStore) -> None:
        await learn_in(store, "v1", None, ["a"])
        await learn_in(store, "v2", "v1", [f"e{n}" for n in range(1203)])
        await save(store, make_example("odd", state="quarantined", reason="harmful"))
        await switch(store, "v1", "v2")
        await learn_in(store, "v1", None, ["a"], tenant="other")
        assert await store.end_waiting("other", release=True) == 0
        assert await store.end_waiting("acme", release=True) == 1203
        assert await store.end_waiting("acme", release=True) == 0
        assert await waiting(store) == {"odd": "harmful"}
        counts = await store.counts("acme")
        assert (counts.examples["pending"], counts.waiting) == (1203, 0)
        pending = await gathered(store.examples("acme", state="pending"))
        assert {(example.reason, example.learned_in) for example in pending} == {(None, None)}
        await switch(store, "v2", "v1")
        assert await learned_in(store) == {"a": "v1"}

    async def test_discarded_examples_wait_no_longer(self, store: MemoryStore) -> None:
        await learn_in(store, "v1", None, ["a"])
        await learn_in(store, "v2", "v1", ["b"])
        await switch(store, "v1", "v2")
        assert await store.end_waiting("acme", release=False) == 1
        assert await store.end_waiting("acme", release=False) == 0
        assert await store.end_waiting("acme", release=True) == 0
        assert (await store.counts("acme")).waiting == 0
        await switch(store, "v2", "v1")
        assert await waiting(store) == {"b": "discarded"}
        assert await store.end_waiting("nobody", release=True) == 0
        assert await store.count_undone("nobody", "v1") == 0
        assert await store.tenants() == ["acme"]

    async def test_withdrawn_consent_ends_the_waiting(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn(feedback=UserFeedback(corrected_intent="billing")))
        await learn_in(store, "v1", None, ["a"])
        await learn_in(store, "v2", "v1", ["b"], turn_id="t1")
        await switch(store, "v1", "v2")
        await store.add_feedback("acme", "t1", UserFeedback(consent=False))
        assert (await store.counts("acme")).waiting == 0
        assert await store.end_waiting("acme", release=True) == 0
        await switch(store, "v2", "v1")
        assert await waiting(store) == {"b": "consent"}

    async def test_examples_of_former_versions_stay_learned_after_an_undo(self, store: MemoryStore) -> None:
        await save(store, make_example("imported", state="learned"))
        await learn_in(store, "v1", None, ["a"])
        await learn_in(store, "v2", "v1", [], replayed=["a", "imported"])
        await switch(store, "v1", "v2")
        assert await learned_in(store) == {"a": "v1", "imported": None}

    async def test_an_example_relearned_with_another_label_waits_after_an_undo(
        self, store: MemoryStore
    ) -> None:
        await learn_in(store, "v1", None, ["a"])
        relabelled = make_example("a", intent="refund")
        await save(store, relabelled)
        promotion = Promotion(version=make_version("v2", parent="v1"), expected="v1", learned=[relabelled])
        assert await store.promote("acme", promotion, token=None)
        await switch(store, "v1", "v2")
        (waits,) = await gathered(store.examples("acme", state="quarantined"))
        assert (waits.example_id, waits.intent, waits.learned_in) == ("a", "refund", "v2")

    async def test_an_example_relabelled_after_an_undo_stays_pending(self, store: MemoryStore) -> None:
        await learn_in(store, "v1", None, ["a"])
        await learn_in(store, "v2", "v1", ["b"])
        await switch(store, "v1", "v2")
        await save(store, make_example("b", intent="refund", learned_in="v2"))
        await switch(store, "v2", "v1")
        assert await ids(store.examples("acme", state="pending")) == ["b"]

    async def test_a_late_switch_undoes_nothing(self, store: MemoryStore) -> None:
        await learn_in(store, "v1", None, ["a"])
        await learn_in(store, "v2", "v1", ["b"])
        late = Promotion(version=make_version("v1"), expected="v0")
        assert not await store.promote("acme", late, token=None)
        assert await learned_in(store) == {"a": "v1", "b": "v2"}

    async def test_versions_belong_to_a_tenant(self, store: MemoryStore) -> None:
        await store.promote("acme", Promotion(version=make_version(), expected=None), token=None)
        assert await store.champion("other") is None
        assert await store.get_version("other", "v1") is None
        assert await store.versions("other") == []
        assert await gathered(store.lineage("other", "v1")) == []

    async def test_many_examples_can_be_learned(self, store: MemoryStore) -> None:
        names = [f"e{n}" for n in range(1203)]
        trained = list(map(make_example, names))
        await save(store, *trained)
        await store.promote(
            "acme", Promotion(version=make_version(), expected=None, learned=trained), token=None
        )
        assert await gathered(store.lineage("acme", "v1")) == names
        assert (await store.counts("acme")).examples == {"learned": 1203}


class TestProvisionalVersions:
    async def promote(self, store: MemoryStore, parent: str | None, learned: list[Example]) -> bool:
        """Let `v2`, a child of `parent`, serve instead of the champion."""
        promotion = Promotion(
            version=make_version("v2").model_copy(update={"parent": parent, "provisional": True}),
            expected=None,
            alias=PROVISIONAL,
            replayed=[example.example_id for example in learned],
        )
        return await store.promote("acme", promotion, token=None)

    @pytest.fixture
    async def learned(self, store: MemoryStore) -> list[Example]:
        """Pending examples of the provisional version `v2` after the champion `v1`."""
        examples = [make_example(f"e{number}") for number in range(3)]
        await save(store, *examples)
        assert await store.promote("acme", Promotion(version=make_version(), expected=None), token=None)
        assert await self.promote(store, "v1", examples)
        return examples

    async def test_only_one_child_of_the_champion(self, store: MemoryStore, learned: list[Example]) -> None:
        assert not await self.promote(store, "v1", learned), "there is one"
        found = await store.alias("acme", PROVISIONAL)
        assert found is not None
        assert (found.version, found.provisional) == ("v2", True)
        assert (await store.counts("acme")).examples == {"pending": 3}
        assert await gathered(store.lineage("acme", "v2")) == [one.example_id for one in learned]
        assert await store.end_provisional("acme", "v2", undo=False, token=None)
        assert not await self.promote(store, "v0", learned), "v0 is not the champion"
        assert await store.alias("acme", PROVISIONAL) is None

    @pytest.mark.parametrize("undo", [False, True])
    async def test_it_ends_once(self, store: MemoryStore, learned: list[Example], undo: bool) -> None:
        assert not await store.end_provisional("acme", "v1", undo=undo, token=None)
        assert await store.end_provisional("acme", "v2", undo=undo, token=None)
        assert not await store.end_provisional("acme", "v2", undo=undo, token=None)
        counts = await store.counts("acme")
        assert counts.waiting == (len(learned) if undo else 0)

    @pytest.mark.parametrize(("parent", "waiting"), [("v1", 0), (None, 3)])
    async def test_a_new_champion_ends_it(
        self, store: MemoryStore, learned: list[Example], parent: str | None, waiting: int
    ) -> None:
        version = make_version("v3").model_copy(update={"parent": parent})
        assert await store.promote("acme", Promotion(version=version, expected="v1"), token=None)
        assert await store.alias("acme", PROVISIONAL) is None
        assert (await store.counts("acme")).waiting == waiting <= len(learned)

    async def test_only_the_holder_of_the_lease_ends_it(
        self, store: MemoryStore, learned: list[Example]
    ) -> None:
        assert learned
        with pytest.raises(FencedOut):
            await store.end_provisional("acme", "v2", undo=False, token=7)
        assert await store.alias("acme", PROVISIONAL) is not None


class TestOutcomes:
    def outcome(self, name: str, *, minutes: int = 0, **values: Any) -> Outcome:
        known_at = NOON + timedelta(minutes=minutes)
        return Outcome(outcome_id=name, known_at=known_at, source="accuracy", agent="a", **values)

    async def test_they_are_read_in_order_of_time(self, store: MemoryStore) -> None:
        late = self.outcome("late", minutes=5, predicted={"a": [1, "\0"]}, actual=None, score=0.5)
        early = self.outcome("early", minutes=1, success=False, error_type="time\0out", cost=0.25, tokens=3)
        await store.add_outcomes("acme", [late, early])
        await store.add_outcomes("other", [self.outcome("early")])
        assert await store.newest_outcomes("acme", since=NOON, limit=10) == [early, late]
        assert await store.newest_outcomes("acme", since=early.known_at, limit=10) == [late]
        assert await store.newest_outcomes("acme", since=NOON, limit=1) == [late]
        assert await store.newest_outcomes("nobody", since=NOON, limit=10) == []

    async def test_a_repeated_one_changes_nothing(self, store: MemoryStore) -> None:
        first = self.outcome("one", minutes=1, score=0.0)
        await store.add_outcomes("acme", [first])
        await store.add_outcomes("acme", [self.outcome("one", minutes=2, score=1.0), self.outcome("two")])
        await store.add_outcomes("acme", [])
        assert await store.newest_outcomes("acme", since=NOON, limit=10) == [first]

    async def test_old_ones_are_removed(self, store: MemoryStore) -> None:
        await store.add_outcomes("acme", [self.outcome(f"{n}", minutes=n) for n in range(1, 1203)])
        assert await store.prune_outcomes("acme", before=NOON + timedelta(minutes=1000)) == 999
        assert len(await store.newest_outcomes("acme", since=NOON, limit=5000)) == 203
        assert await store.prune_outcomes("nobody", before=NOON) == 0


class TestMasks:
    async def promote(
        self,
        store: MemoryStore,
        number: int,
        masks: dict[str, int],
        *,
        expected: str | None = None,
        generation: str = "g1",
        tenant: str = "acme",
    ) -> bool:
        promotion = Promotion(
            version=make_version(f"v{number}", tenant=tenant),
            expected=expected or (f"v{number - 1}" if number > 1 else None),
            masks=masks,
            generation=generation,
        )
        return await store.promote(tenant, promotion, token=None)

    async def test_bits_are_united(self, store: MemoryStore) -> None:
        assert await self.promote(store, 1, {"group:a": 0b00101, "group:ü\0": 0b11111, "person:x": 0})
        assert await self.promote(store, 2, {"group:a": 0b00110, "person:y": 0b10000})
        names = ["group:a", "group:ü\0", "person:x", "person:y", "group:missing", "group:a"]
        assert await store.masks("acme", "g1", names) == {
            "group:a": 0b00111,
            "group:ü\0": 0b11111,
            "person:x": 0,
            "person:y": 0b10000,
        }
        assert await store.masks("acme", "g1", ["group:a"]) == {"group:a": 0b00111}
        assert await store.masks("acme", "g1", []) == {}

    async def test_each_generation_has_its_own(self, store: MemoryStore) -> None:
        assert await self.promote(store, 1, {"a": 1, "b": 2})
        assert await self.promote(store, 1, {"a": 7}, tenant="other")
        assert await self.promote(store, 2, {"b": 4, "c": 8}, generation="g2")
        assert await store.masks("acme", "g1", ["a", "b", "c"]) == {"a": 1, "b": 2}
        assert await store.masks("acme", "g2", ["a", "b", "c"]) == {"b": 4, "c": 8}
        assert await store.masks("other", "g1", ["a"]) == {"a": 7}

    async def test_those_of_unused_generations_are_removed(self, store: MemoryStore) -> None:
        for number, generation in enumerate(("g1", "g2", "g3"), start=1):
            assert await self.promote(store, number, {"a": number}, generation=generation)
        assert await self.promote(store, 1, {"a": 7}, tenant="other")
        await store.prune_masks("acme", ["g1", "g3"])
        kept = [await store.has_masks("acme", generation) for generation in ("g1", "g2", "g3")]
        assert kept == [True, False, True]
        await store.prune_masks("acme", [])
        assert not await store.has_masks("acme", "g1")
        assert await store.has_masks("other", "g1")

    async def test_only_the_holder_of_the_lease_stores_them(self, store: MemoryStore) -> None:
        lease = await store.acquire_lease("acme", ME, ttl=TTL)
        assert lease is not None
        await store.store_masks("acme", "g1", {"a": 3}, token=lease.token)
        with pytest.raises(FencedOut):
            await store.store_masks("acme", "g1", {"a": 4}, token=lease.token + 1)
        assert await store.masks("acme", "g1", ["a"]) == {"a": 3}

    async def test_a_late_promotion_changes_none(self, store: MemoryStore) -> None:
        assert await self.promote(store, 1, {"a": 1})
        assert not await self.promote(store, 2, {"a": 2}, expected="v0")
        assert await store.masks("acme", "g1", ["a"]) == {"a": 1}

    async def test_many_can_be_written_and_read(self, store: MemoryStore) -> None:
        many = {f"group:{number}": number % 32 for number in range(40_000)}
        assert await self.promote(store, 1, many)
        assert await self.promote(store, 2, dict.fromkeys(many, 1))
        expected = {name: mask | 1 for name, mask in many.items()}
        assert await store.masks("acme", "g1", [*many, "missing"]) == expected


class TestOverview:
    async def test_counts(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn("a", degraded=True))
        await store.add_turn(make_turn("b", feedback=UserFeedback(corrected_intent="refund")))
        await store.add_turn(make_turn("c", feedback=UserFeedback(satisfaction_score=0.9)))
        await save(
            store,
            make_example("d"),
            make_example("e", source="seed"),
            make_example("f", source="reviewed", state="learned"),
            make_example("g", source="seed", state="quarantined", reason="harmful"),
        )
        await store.start_cycle(make_cycle())
        counts = await store.counts("acme")
        assert counts.model_dump() == {
            "turns": 3,
            "with_feedback": 2,
            "corrections": 1,
            "awaiting_curation": 2,
            "examples": {"pending": 2, "learned": 1, "quarantined": 1},
            "gold": 2,
            "waiting": 0,
            "cycles": 1,
            "degraded": 1,
        }

    async def test_turns_are_counted_by_version(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn("a", model_version="v1", degraded=True))
        await store.add_turn(make_turn("b", model_version="v1", feedback=UserFeedback(corrected_intent="x")))
        await store.add_turn(make_turn("c", model_version="v2"))
        await store.add_turn(make_turn("d"))
        await store.add_turn(make_turn("a", tenant="other", model_version="v1"))
        await store.add_feedback("acme", "a", UserFeedback(satisfaction_score=0.9))
        first = await store.version_counts("acme", "v1")
        assert first == VersionCounts(turns=2, with_feedback=2, corrections=1, degraded=1)
        assert await store.version_counts("acme", "v2") == VersionCounts(turns=1)
        assert await store.version_counts("other", "v1") == VersionCounts(turns=1)
        assert await store.version_counts("acme", "v3") == VersionCounts()
        assert await store.total_turns() == 5

    async def test_of_an_unknown_tenant_are_zero(self, store: MemoryStore) -> None:
        assert (await store.counts("nobody")).turns == 0
        assert await store.tenants() == []

    async def test_tenants_are_those_with_data(self, store: MemoryStore) -> None:
        await store.add_turn(make_turn(tenant="b"))
        await save(store, make_example(), tenant="a")
        assert await store.tenants() == ["b", "a"]

    async def test_tenants_can_be_read_in_pages(self, store: MemoryStore) -> None:
        for name in ("c", "a", "b"):
            await store.add_turn(make_turn(tenant=name))
        assert await store.tenants(limit=2) == ["c", "a"]
        assert await store.tenants(after="a", limit=2) == ["b"]
        assert await store.tenants(after="b") == []
        assert await store.tenants(after="unknown") == []
