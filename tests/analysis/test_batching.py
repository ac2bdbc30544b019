import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.analysis.batching import MicroBatcher, batches


class Doubler:
    """Doubles numbers, remembers the batches, and waits while its gate is shut."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        if -1 in items:
            raise ValueError("-1 cannot be doubled")
        return [2 * item for item in items]


def batcher_of(handle, *, max_batch=4, queue_size=100, weigh=lambda _: 1, max_weight=1000):
    return MicroBatcher(
        handle, max_batch=max_batch, queue_size=queue_size, weigh=weigh, max_weight=max_weight
    )


async def test_concurrent_calls_share_batches_in_order():
    handle = Doubler()
    batcher = batcher_of(handle)
    assert await asyncio.gather(*map(batcher.submit, range(10))) == [2 * number for number in range(10)]
    assert handle.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_callers_who_ask_again_at_once_meet_again():
    handle = Doubler()
    batcher = batcher_of(handle, max_batch=64)

    async def caller() -> None:
        for number in range(5):
            assert await asyncio.wait_for(batcher.submit(number), 60) == 2 * number

    await asyncio.gather(*(caller() for _ in range(8)))
    assert [len(batch) for batch in handle.batches] == [8] * 5


async def test_what_comes_meanwhile_makes_the_next_batch():
    handle = Doubler()
    batcher = batcher_of(handle)
    handle.gate.clear()
    first = asyncio.create_task(batcher.submit(1))
    while not handle.batches:
        await asyncio.sleep(0)
    others = [asyncio.create_task(batcher.submit(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    assert handle.batches == [[1]]
    handle.gate.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6]
    assert handle.batches == [[1], [2, 3]]


async def test_a_cancelled_caller_harms_nobody():
    handle = Doubler()
    batcher = batcher_of(handle)
    handle.gate.clear()
    running = [asyncio.create_task(batcher.submit(number)) for number in (1, 2)]
    while not handle.batches:
        await asyncio.sleep(0)
    queued = [asyncio.create_task(batcher.submit(number)) for number in (3, 4)]
    await asyncio.sleep(0)
    running[0].cancel()
    queued[0].cancel()
    await asyncio.sleep(0)
    handle.gate.set()
    assert await running[1] == 4
    assert await queued[1] == 8
    assert handle.batches == [[1, 2], [4]]


async def test_callers_wait_while_the_queue_is_full():
    handle = Doubler()
    batcher = batcher_of(handle, max_batch=2, queue_size=3)
    handle.gate.clear()
    callers = [asyncio.create_task(batcher.submit(number)) for number in range(20)]
    for _ in range(20):
        await asyncio.sleep(0)
        assert len(batcher._queue) <= 3
    handle.gate.set()
    assert await asyncio.gather(*callers) == [2 * number for number in range(20)]


async def test_callers_that_are_cancelled_while_they_wait_give_their_place_back():
    handle = Doubler()
    batcher = batcher_of(handle, max_batch=1, queue_size=1)
    handle.gate.clear()
    callers = [asyncio.create_task(batcher.submit(number)) for number in range(8)]
    for _ in range(10):
        await asyncio.sleep(0)
    for caller in callers[1:7]:
        caller.cancel()
    handle.gate.set()
    assert await callers[0] == 0
    assert await callers[7] == 14
    assert await batcher.submit(9) == 18


async def test_an_error_reaches_its_batch_and_no_other():
    handle = Doubler()
    batcher = batcher_of(handle, max_batch=2)
    results = await asyncio.gather(*map(batcher.submit, (1, -1, 2, 3)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError, int, int]
    assert await batcher.submit(5) == 10


async def test_a_handler_with_too_few_results_is_an_error_for_all():
    async def handle(items: Sequence[int]) -> Sequence[int]:
        return items[1:]

    batcher = batcher_of(handle)
    results = await asyncio.gather(*map(batcher.submit, (1, 2)), return_exceptions=True)
    assert any(isinstance(result, ValueError) for result in results)


async def test_a_batch_ends_at_its_weight_and_a_heavy_item_goes_alone():
    handle = Doubler()
    batcher = batcher_of(handle, max_batch=10, weigh=lambda item: item, max_weight=10)
    await asyncio.gather(*map(batcher.submit, (4, 4, 4, 50, 1, 2)))
    assert handle.batches == [[4, 4], [4], [50], [1, 2]]


async def test_a_lone_caller_is_answered_when_the_handler_is_cancelled():
    async def handle(items: Sequence[int]) -> Sequence[int]:
        raise asyncio.CancelledError

    batcher = batcher_of(handle)
    with pytest.raises(asyncio.CancelledError):
        await batcher.submit(1)


def test_it_serves_one_event_loop_after_another():
    handle = None

    async def ask(batcher: MicroBatcher[int, int]) -> list[int]:
        return await asyncio.gather(*map(batcher.submit, range(3)))

    async def plain(items: Sequence[int]) -> Sequence[int]:
        return items

    handle = batcher_of(plain)
    assert asyncio.run(ask(handle)) == asyncio.run(ask(handle)) == [0, 1, 2]


@given(st.lists(st.integers(0, 30)), st.integers(1, 5), st.integers(1, 40))
def test_cutting_keeps_everything_in_order_within_bounds(items, max_batch, max_weight):
    cut = list(batches(items, max_batch=max_batch, weigh=lambda item: item, max_weight=max_weight))
    assert [item for batch in cut for item in batch] == items
    for batch in cut:
        assert 1 <= len(batch) <= max_batch
        assert len(batch) == 1 or sum(batch) <= max_weight
