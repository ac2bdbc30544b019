"""The lease of a cycle: renewal, loss, and cancellation."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from karen_learner.contracts import MemoryStore
from karen_learner.errors import FencedOut
from karen_learner.memory import open_store
from karen_learner.memory.leases import hold_lease, renewing
from karen_learner.records import Lease
from karen_learner.settings import load_settings
from tests.autonomy.conftest import FastClock

TTL = timedelta(seconds=0.2)
OWNER, OTHER = "elsewhere/1/a", "elsewhere/2/b"


@pytest.fixture
def clock() -> FastClock:
    return FastClock()


@pytest.fixture
async def store(tmp_path: Path, clock: FastClock) -> AsyncIterator[MemoryStore]:
    settings = load_settings(environment={}).store
    async with open_store(tmp_path / "karen.db", settings, clock=clock) as opened:
        yield opened


async def outlive(store: MemoryStore, clock: FastClock) -> None:
    """Move the clock beyond the first expiry of a renewed lease, in steps below its TTL."""
    for _ in range(3):
        clock.move(0.9 * TTL.total_seconds())
        async with asyncio.timeout(60):
            while (held := await store.lease("acme")) is None or held.expires_at < clock.now + TTL:
                await asyncio.sleep(0.01)


async def lost_lease(store: MemoryStore) -> Lease:
    """A lease that another process took over."""
    lease = await store.acquire_lease("acme", OWNER, ttl=timedelta(0))
    assert lease is not None
    assert await store.acquire_lease("acme", OTHER, ttl=timedelta(seconds=60)) is not None
    return lease


async def test_one_holder_at_a_time_and_release_at_the_end(store: MemoryStore) -> None:
    async with hold_lease(store, "acme", owner=OWNER, ttl=TTL) as first:
        assert first is not None
        async with hold_lease(store, "acme", owner=OTHER, ttl=TTL) as second:
            assert second is None
    async with hold_lease(store, "acme", owner=OTHER, ttl=TTL) as third:
        assert third is not None
        assert third.token > first.token


async def test_a_renewed_lease_does_not_expire(store: MemoryStore, clock: FastClock) -> None:
    async with hold_lease(store, "acme", owner=OWNER, ttl=TTL) as lease:
        assert lease is not None
        async with renewing(store, lease, ttl=TTL):
            await outlive(store, clock)
            assert await store.acquire_lease("acme", OTHER, ttl=TTL) is None


async def test_renewals_continue_after_an_unexpected_error(
    store: MemoryStore,
    clock: FastClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    renew, failures = store.renew_lease, [RuntimeError("a bug")]

    async def fails_once(lease: Lease, *, ttl: timedelta) -> Lease:
        if failures:
            raise failures.pop()
        return await renew(lease, ttl=ttl)

    monkeypatch.setattr(store, "renew_lease", fails_once)
    async with hold_lease(store, "acme", owner=OWNER, ttl=TTL) as lease:
        assert lease is not None
        async with renewing(store, lease, ttl=TTL):
            await outlive(store, clock)
            assert await store.acquire_lease("acme", OTHER, ttl=TTL) is None
    assert "cannot be renewed" in caplog.text


async def test_a_lost_lease_stops_the_block_and_leaves_the_task_uncancelled(store: MemoryStore) -> None:
    lease = await lost_lease(store)
    with pytest.raises(FencedOut, match="'acme'"):
        async with renewing(store, lease, ttl=TTL):
            await asyncio.sleep(60)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    async with asyncio.timeout(60):  # a timeout works only in a task without pending cancellations
        await asyncio.sleep(0)


async def test_a_cancellation_by_the_caller_remains_a_cancellation(store: MemoryStore) -> None:
    begun = asyncio.Event()

    async def block() -> None:
        async with hold_lease(store, "acme", owner=OWNER, ttl=TTL) as lease:
            assert lease is not None
            async with renewing(store, lease, ttl=TTL):
                begun.set()
                await asyncio.sleep(60)

    running = asyncio.create_task(block())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await store.acquire_lease("acme", OTHER, ttl=TTL) is not None
