"""Fixtures: orchestrators of a home with one version, around models that answer, fail or wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from karen_learner.learner import AutonomousLearner
from karen_learner.orchestrator import Orchestrator, Prompt

MakeOrchestrator = Callable[..., Awaitable[Orchestrator]]


async def echo(prompt: Prompt) -> str:
    return f"the LLM heard {prompt.user_text!r}"


@pytest.fixture
async def make_orchestrator(acme: AutonomousLearner) -> AsyncIterator[MakeOrchestrator]:
    """Creates started orchestrators of `acme`. Their spools commit before each reply."""
    async with AsyncExitStack() as closing:

        async def make(llm: Any = echo, **options: Any) -> Orchestrator:
            options = {"spool_wait_s": 60.0, "deadline_s": 60.0, **options}
            return await closing.enter_async_context(Orchestrator(acme, llm, **options))

        yield make


@pytest.fixture
def store_kind() -> str:
    """SQLite: the spool is a file in any case."""
    return "file"
