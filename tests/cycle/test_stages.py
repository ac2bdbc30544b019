"""What stages do beside each other: nothing is left running, whatever fails."""

import asyncio
import time
from collections.abc import Coroutine

import pytest
from asyncio_extras import call_in_executor

from karen_learner.cycle.stages import _meanwhile


async def fail_beside(work: Coroutine[None, None, None]) -> None:
    async with _meanwhile(work):
        await asyncio.sleep(0)
        raise RuntimeError("the block failed")


async def wait_for(work: Coroutine[None, None, None]) -> None:
    async with _meanwhile(work) as task:
        assert not task.done()
        await task


async def run_out_of_disk() -> None:
    await asyncio.sleep(0)
    raise OSError("the disk is full")


async def test_a_block_that_fails_leaves_no_thread_behind() -> None:
    written: list[str] = []

    def write() -> None:
        time.sleep(0.05)
        written.append("a line")

    async def work() -> None:
        await call_in_executor(write)

    with pytest.raises(RuntimeError, match="the block failed"):
        await fail_beside(work())
    assert written == ["a line"]


async def test_what_fails_meanwhile_is_told_by_whoever_awaits_it() -> None:
    with pytest.raises(OSError, match="full"):
        await wait_for(run_out_of_disk())


async def test_where_both_fail_the_block_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="karen_learner.cycle.stages")
    with pytest.raises(RuntimeError, match="the block failed"):
        await fail_beside(run_out_of_disk())
    assert "the disk is full" in caplog.text
