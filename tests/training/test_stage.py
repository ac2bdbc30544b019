"""Concurrent work of a stage ends with its block, also if the block or the work fails."""

import asyncio
import time
from collections.abc import Coroutine

import pytest
from asyncio_extras import call_in_executor

from karen_learner.training.stage import concurrently


async def fail_during(work: Coroutine[None, None, None]) -> None:
    async with concurrently(work):
        await asyncio.sleep(0)
        raise RuntimeError("the block failed")


async def wait_for(work: Coroutine[None, None, None]) -> None:
    async with concurrently(work) as task:
        assert not task.done()
        await task


async def run_out_of_disk() -> None:
    await asyncio.sleep(0)
    raise OSError("the disk is full")


async def test_a_failed_block_leaves_no_running_thread() -> None:
    written: list[str] = []

    def write() -> None:
        time.sleep(0.05)
        written.append("a line")

    async def work() -> None:
        await call_in_executor(write)

    with pytest.raises(RuntimeError, match="the block failed"):
        await fail_during(work())
    assert written == ["a line"]


async def test_an_error_of_concurrent_work_is_raised_by_await() -> None:
    with pytest.raises(OSError, match="full"):
        await wait_for(run_out_of_disk())


async def test_if_both_fail_the_error_of_the_block_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="karen_learner.training.stage")
    with pytest.raises(RuntimeError, match="the block failed"):
        await fail_during(run_out_of_disk())
    assert "the disk is full" in caplog.text
