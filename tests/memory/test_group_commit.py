"""The group commit by itself, on a commit function that the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from karen_learner.errors import LearnerClosed
from karen_learner.memory.writer import GroupCommit


class Ledger:
    """Records batches; waits for `gate` before each commit."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(self, items: Sequence[int]) -> Sequence[str | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        if any(item == 666 for item in items):
            raise RuntimeError("nothing of this batch was written")
        return [ValueError(f"odd {item}") if item < 0 else f"wrote {item}" for item in items]


def started(ledger: Ledger, *, queue_size: int = 100, max_batch: int = 10) -> GroupCommit[int, str]:
    writer: GroupCommit[int, str] = GroupCommit(ledger.commit, queue_size=queue_size, max_batch=max_batch)
    writer.start()
    return writer


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_queues_up_during_a_commit_is_the_next_batch() -> None:
    ledger = Ledger()
    ledger.gate.clear()
    writer = started(ledger)
    calls = [asyncio.ensure_future(writer.submit(0))]
    await settle()
    calls += [asyncio.ensure_future(writer.submit(n)) for n in range(1, 15)]
    await settle()
    assert ledger.batches == [[0]]
    ledger.gate.set()
    assert await asyncio.gather(*calls) == [f"wrote {n}" for n in range(15)]
    assert ledger.batches == [[0], list(range(1, 11)), list(range(11, 15))]
    await writer.close()


async def test_nobody_hears_before_the_commit() -> None:
    ledger = Ledger()
    ledger.gate.clear()
    writer = started(ledger)
    call = asyncio.ensure_future(writer.submit(1))
    await settle()
    assert ledger.batches
    assert not call.done()
    ledger.gate.set()
    assert await call == "wrote 1"
    await writer.close()


async def test_each_hears_its_own_error() -> None:
    writer = started(Ledger())
    answers = await asyncio.gather(*map(writer.submit, (1, -2, 3)), return_exceptions=True)
    assert answers[::2] == ["wrote 1", "wrote 3"]
    assert isinstance(answers[1], ValueError)
    await writer.close()


async def test_an_error_of_the_commit_reaches_all_and_the_writer_goes_on() -> None:
    writer = started(Ledger())
    answers = await asyncio.gather(*map(writer.submit, (1, 666)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]
    assert await writer.submit(2) == "wrote 2"
    await writer.close()


async def test_a_cancelled_caller_harms_nobody() -> None:
    ledger = Ledger()
    ledger.gate.clear()
    writer = started(ledger)
    calls = [asyncio.ensure_future(writer.submit(n)) for n in range(3)]
    await settle()
    calls[1].cancel()
    await settle()
    ledger.gate.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert answers[::2] == ["wrote 0", "wrote 2"]
    assert isinstance(answers[1], asyncio.CancelledError)
    await writer.close()


async def test_callers_wait_while_the_queue_is_full() -> None:
    ledger = Ledger()
    ledger.gate.clear()
    writer = started(ledger, queue_size=4, max_batch=2)
    calls = [asyncio.ensure_future(writer.submit(n)) for n in range(9)]
    calls[7].cancel()
    await settle()
    assert ledger.batches == [[0, 1]]
    ledger.gate.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert max(map(len, ledger.batches)) == 2
    assert [item for batch in ledger.batches for item in batch] == [0, 1, 2, 3, 4, 5, 6, 8]
    await writer.close()


async def test_closing_writes_all_that_was_submitted() -> None:
    ledger = Ledger()
    ledger.gate.clear()
    writer = started(ledger, queue_size=4, max_batch=2)
    calls = [asyncio.ensure_future(writer.submit(n)) for n in range(9)]
    await settle()
    closing = asyncio.ensure_future(writer.close())
    await settle()
    with pytest.raises(LearnerClosed):
        await writer.submit(99)
    ledger.gate.set()
    await closing
    await writer.close()
    assert await asyncio.gather(*calls) == [f"wrote {n}" for n in range(9)]


async def test_closing_without_starting_is_nothing() -> None:
    ledger = Ledger()
    writer = GroupCommit(ledger.commit, queue_size=1, max_batch=1)
    await writer.close()
    assert ledger.batches == []
    with pytest.raises(LearnerClosed):
        await writer.submit(1)
