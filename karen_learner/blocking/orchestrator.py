"""The orchestrator for synchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from karen_learner.blocking.learner import BlockingLearner
from karen_learner.blocking.portal import Blocking, blocking
from karen_learner.orchestrator.middleware import Orchestrator as AsyncOrchestrator
from karen_learner.orchestrator.replies import Answers, Prompt, context_of
from karen_learner.records import Analysis

MAX_CALLS = 64
"""Calls of the LLM at the same time. Further ones wait, within their deadlines."""


class Orchestrator(Blocking[AsyncOrchestrator]):
    """`orchestrator.Orchestrator` for synchronous code, in the thread of a learner.

    `llm` is a function from a `Prompt` to a text. It is called in threads of its own. A late call is
    abandoned, but its thread runs on: give the client of the LLM a time limit.
    """

    def __init__(
        self,
        learner: BlockingLearner,
        llm: Callable[[Prompt], str],
        *,
        answers: Answers | None = None,
        describe: Callable[[Analysis], str] = context_of,
        deadline_s: float = 10.0,
        spool: Path | str | None = None,
        spool_wait_s: float = 0.001,
        spool_bounds: Mapping[str, Any] | None = None,
    ) -> None:
        self._threads = ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="karen-llm")

        async def answer(prompt: Prompt) -> str:
            return await asyncio.get_running_loop().run_in_executor(self._threads, llm, prompt)

        twin = AsyncOrchestrator(
            learner.learner,
            answer,
            answers=answers,
            describe=describe,
            deadline_s=deadline_s,
            spool=spool,
            spool_wait_s=spool_wait_s,
            spool_bounds=spool_bounds,
        )
        super().__init__(twin, learner.portal)

    def __enter__(self) -> Self:
        self.start()
        return self

    def close(self) -> None:
        """Store spooled turns and outcomes, and abandon running calls. Idempotent."""
        self._portal.call(self._twin.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    start = blocking(AsyncOrchestrator.start)
    reply = blocking(AsyncOrchestrator.reply)
    collect = blocking(AsyncOrchestrator.collect)
    feedback = blocking(AsyncOrchestrator.feedback)
