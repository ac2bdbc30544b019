"""Adapters for LangChain. They need `langchain-core`.

`LangChainCallback` collects the calls of models of an existing chain. `as_language_model` makes a chain the
LLM of an `Orchestrator`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from cachetools import LRUCache
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import Runnable

from karen_learner.orchestrator.middleware import Orchestrator
from karen_learner.orchestrator.replies import LanguageModel, Prompt

MAX_RUNS = 10_000


def as_language_model(chain: Runnable[Any, Any]) -> LanguageModel:
    """A chain or chat model as the LLM of an orchestrator. It gets context and message as two messages."""

    async def answer(prompt: Prompt) -> str:
        found = await chain.ainvoke([(one["role"], one["content"]) for one in prompt.messages])
        return _text(found)

    return answer


class LangChainCallback(AsyncCallbackHandler):
    """Collects each call of a model in a chain as a turn. It also is an outcome of the strategy `llm`.

    Pass it in `config["callbacks"]`. `config["metadata"]` has `user_id`, and may have `tenant_id`,
    `conversation_id` and `turn_id`. The id of a turn without one is that of LangChain's run. A call without a
    user is not collected.
    """

    def __init__(self, orchestrator: Orchestrator, *, tenant_id: str = "default") -> None:
        self._orchestrator = orchestrator
        self._tenant_id = tenant_id
        self._runs: LRUCache[UUID, tuple[str, Mapping[str, Any]]] = LRUCache(MAX_RUNS)

    async def on_chat_model_start(
        self, *inputs: Any, run_id: UUID, metadata: dict[str, Any] | None = None, **_more: Any
    ) -> None:
        """Remember the newest message of the user."""
        _, conversations = inputs
        texts = [_text(one) for one in conversations[0] if one.type == "human"]
        self._begin(run_id, texts, metadata)

    async def on_llm_start(
        self, *inputs: Any, run_id: UUID, metadata: dict[str, Any] | None = None, **_more: Any
    ) -> None:
        """Remember the prompt."""
        _, prompts = inputs
        self._begin(run_id, prompts, metadata)

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_more: Any) -> None:
        """Collect the turn."""
        begun = self._runs.pop(run_id, None)
        generations = response.generations[0] if response.generations else []
        if begun is None or not generations:
            return
        user_text, metadata = begun
        await self._orchestrator.collect(
            metadata.get("tenant_id", self._tenant_id),
            user_text,
            generations[0].text,
            user_id=str(metadata["user_id"]),
            conversation_id=metadata.get("conversation_id"),
            turn_id=metadata.get("turn_id") or str(run_id),
        )

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **_more: Any) -> None:
        """Record the failure."""
        begun = self._runs.pop(run_id, None)
        if begun is not None:
            tenant_id = begun[1].get("tenant_id", self._tenant_id)
            self._orchestrator.record_llm(tenant_id, error=type(error).__name__)

    def _begin(self, run_id: UUID, texts: Sequence[str], metadata: Mapping[str, Any] | None) -> None:
        if texts and metadata and metadata.get("user_id"):
            self._runs[run_id] = texts[-1], metadata


def _text(found: Any) -> str:
    """The text of a message, or of a plain answer. Parts that are no text are left out."""
    return found.text if isinstance(found, BaseMessage) else str(found)
