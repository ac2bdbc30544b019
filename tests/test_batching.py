"""`Batcher` on a handler that the test controls, `cut_into_batches` and `pages`."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.concurrency import Batcher, cut_into_batches, pages
from karen_learner.errors import LearnerClosed


class Doubler:
    """Doubles numbers and records the batches. Waits while `gate` is closed.

    -1 fails its whole batch; -2 and below fail alone.
    """

    def __init__(self, *, open: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        if open:
            self.gate.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        if -1 in items:
            raise RuntimeError("-1 cannot be doubled")
        return [ValueError(f"odd {item}") if item < -1 else 2 * item for item in items]


def batcher_of(handle: Any, **limits: Any) -> Batcher[int, int]:
    return Batcher(handle, **({"max_batch": 4, "queue_size": 100} | limits))


def submitted(batcher: Batcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(batcher.submit(item)) for item in items]


async def run_others() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_concurrent_calls_share_batches_in_order():
    handle = Doubler()
    batcher = batcher_of(handle)
    assert await asyncio.gather(*map(batcher.submit, range(10))) == [2 * number for number in range(10)]
    assert handle.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_callers_that_submit_again_at_once_share_a_batch_again():
    handle = Doubler()
    batcher = batcher_of(handle, max_batch=64)

    async def caller() -> None:
        for number in range(5):
            assert await asyncio.wait_for(batcher.submit(number), 10) == 2 * number

    await asyncio.gather(*(caller() for _ in range(8)))
    assert [len(batch) for batch in handle.batches] == [8] * 5


async def test_items_that_arrive_during_a_batch_form_the_next_batches():
    handle = Doubler(open=False)
    batcher = batcher_of(handle)
    calls = submitted(batcher, 0)
    await run_others()
    calls += submitted(batcher, *range(1, 7))
    await run_others()
    assert handle.batches == [[0]]
    assert not calls[0].done()
    handle.gate.set()
    assert await asyncio.gather(*calls) == [2 * number for number in range(7)]
    assert handle.batches == [[0], [1, 2, 3, 4], [5, 6]]


@pytest.mark.parametrize("skip_cancelled", [True, False])
async def test_a_queued_item_of_a_cancelled_caller_is_skipped_or_handled(skip_cancelled: bool):
    handle = Doubler(open=False)
    batcher = batcher_of(handle, skip_cancelled=skip_cancelled)
    running = submitted(batcher, 1, 2)
    await run_others()
    queued = submitted(batcher, 3, 4)
    await run_others()
    running[0].cancel()
    queued[0].cancel()
    await run_others()
    handle.gate.set()
    assert await running[1] == 4
    assert await queued[1] == 8
    assert handle.batches == [[1, 2], [4] if skip_cancelled else [3, 4]]


async def test_callers_wait_while_the_queue_is_full():
    handle = Doubler(open=False)
    batcher = batcher_of(handle, max_batch=2, queue_size=3)
    calls = submitted(batcher, *range(20))
    for _ in range(20):
        await asyncio.sleep(0)
        assert len(batcher._queue) <= 3
    handle.gate.set()
    assert await asyncio.gather(*calls) == [2 * number for number in range(20)]
    assert [item for batch in handle.batches for item in batch] == list(range(20))


async def test_callers_that_wait_for_space_cost_no_more_than_others():
    batcher = batcher_of(Doubler(), queue_size=4)
    async with asyncio.timeout(20):  # 30,000 callers that all wake up for each batch need minutes
        results = await asyncio.gather(*map(batcher.submit, range(30_000)))
    assert results == [2 * number for number in range(30_000)]


async def test_cancelled_callers_free_their_space_in_the_queue():
    handle = Doubler(open=False)
    batcher = batcher_of(handle, max_batch=1, queue_size=1)
    calls = submitted(batcher, *range(8))
    await run_others()
    for call in calls[1:7]:
        call.cancel()
    handle.gate.set()
    assert await calls[0] == 0
    assert await calls[7] == 14
    assert await batcher.submit(9) == 18


async def test_a_cancelled_caller_leaves_no_item_beyond_the_queue():
    handle = Doubler(open=False)
    batcher = batcher_of(handle, max_batch=1, queue_size=1)
    calls = submitted(batcher, *range(8))
    await run_others()
    for call in calls[2:7]:
        call.cancel()
    await run_others()
    assert len(batcher._queue) + len(batcher._overflow) == 2
    handle.gate.set()
    assert [await calls[number] for number in (0, 1, 7)] == [0, 2, 14]
    assert handle.batches == [[0], [1], [7]]


async def test_an_error_of_the_handler_reaches_its_batch_only():
    batcher = batcher_of(Doubler(), max_batch=2)
    results = await asyncio.gather(*map(batcher.submit, (1, -1, 2, 3)), return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeError, RuntimeError, int, int]
    assert await batcher.submit(5) == 10


async def test_an_error_of_one_item_reaches_its_caller_only():
    batcher = batcher_of(Doubler())
    results = await asyncio.gather(*map(batcher.submit, (1, -2, 3)), return_exceptions=True)
    assert [type(result) for result in results] == [int, ValueError, int]


async def test_a_wrong_number_of_results_is_an_error_for_every_caller():
    async def handle(items: Sequence[int]) -> Sequence[int]:
        return items[1:]

    batcher = batcher_of(handle)
    results = await asyncio.gather(*map(batcher.submit, (1, 2)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError]


async def test_a_batch_ends_at_its_weight_and_a_heavier_item_is_a_batch_by_itself():
    handle = Doubler()
    batcher = batcher_of(handle, max_batch=10, weigh=lambda item: item, max_weight=10)
    await asyncio.gather(*map(batcher.submit, (4, 4, 4, 50, 1, 2)))
    assert handle.batches == [[4, 4], [4], [50], [1, 2]]


async def test_every_caller_is_cancelled_when_the_handler_is_cancelled():
    async def handle(items: Sequence[int]) -> Sequence[int]:
        raise asyncio.CancelledError

    batcher = batcher_of(handle, max_batch=1, queue_size=1)
    results = await asyncio.wait_for(
        asyncio.gather(*map(batcher.submit, range(4)), return_exceptions=True), timeout=10
    )
    assert [type(result) for result in results] == [asyncio.CancelledError] * 4
    await asyncio.wait_for(batcher.close(), timeout=10)


async def test_close_handles_queued_items_and_those_that_wait_for_space():
    handle = Doubler(open=False)
    batcher = batcher_of(handle, max_batch=2, queue_size=4, owner="the store x")
    calls = submitted(batcher, *range(9))
    await run_others()
    calls[3].cancel()
    closing = asyncio.create_task(batcher.close())
    await run_others()
    assert not closing.done()
    with pytest.raises(LearnerClosed, match="the store x is closed"):
        await batcher.submit(99)
    handle.gate.set()
    await closing
    await batcher.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [result for result in results if isinstance(result, int)] == [0, 2, 4, 8, 10, 12, 14, 16]
    assert [item for batch in handle.batches for item in batch] == list(range(9))


async def test_close_waits_for_an_item_whose_caller_was_cancelled():
    handle = Doubler(open=False)
    batcher = batcher_of(handle)
    (call,) = submitted(batcher, 1)
    await run_others()
    call.cancel()
    closing = asyncio.create_task(batcher.close())
    await run_others()
    assert not closing.done()
    handle.gate.set()
    await closing


async def test_close_does_not_poll():
    handle = Doubler(open=False)
    batcher = batcher_of(handle, max_batch=1, queue_size=1)
    calls = submitted(batcher, *range(4))
    closing = asyncio.create_task(batcher.close())
    await run_others()
    assert not asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    handle.gate.set()
    await asyncio.gather(closing, *calls)


async def test_closing_an_unused_batcher_handles_nothing():
    handle = Doubler()
    batcher = batcher_of(handle)
    await batcher.close()
    with pytest.raises(LearnerClosed):
        await batcher.submit(1)
    assert handle.batches == []


def test_one_event_loop_after_another_may_use_it():
    async def submit_three(batcher: Batcher[int, int]) -> list[int]:
        return await asyncio.gather(*map(batcher.submit, range(3)))

    async def handle(items: Sequence[int]) -> Sequence[int]:
        return items

    batcher = batcher_of(handle)
    assert asyncio.run(submit_three(batcher)) == asyncio.run(submit_three(batcher)) == [0, 1, 2]


@given(st.lists(st.integers(0, 30)), st.integers(1, 5), st.integers(1, 40))
def test_cutting_keeps_every_item_in_order_within_the_limits(items, max_batch, max_weight):
    cut = list(cut_into_batches(items, max_batch=max_batch, weigh=lambda item: item, max_weight=max_weight))
    assert [item for batch in cut for item in batch] == items
    for batch in cut:
        assert 1 <= len(batch) <= max_batch
        assert len(batch) == 1 or sum(batch) <= max_weight


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("count", "sizes"), [(0, []), (4, [4]), (5, [4, 1]), (8, [4, 4])])
async def test_pages_keep_every_item_in_order(asynchronous, count, sizes):
    async def stream():
        for number in range(count):
            yield number

    found = [page async for page in pages(stream() if asynchronous else range(count), 4)]
    assert [len(page) for page in found] == sizes
    assert [number for page in found for number in page] == list(range(count))
