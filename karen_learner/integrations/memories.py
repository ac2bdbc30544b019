"""A host's own memory beside the store: it receives every turn, and old turns come from it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, runtime_checkable

from karen_learner.collection import ImportedLine, TurnInput
from karen_learner.contracts import HostMemory
from karen_learner.errors import InvalidInput
from karen_learner.records import Turn

MEMORY_TYPE = "conversation_turn"


@runtime_checkable
class WebUIMemoryService(Protocol):
    """The memory of a chat web interface."""

    async def store_web_ui_memory(
        self,
        *,
        tenant_id: str,
        content: str,
        memory_type: str,
        tags: list[str],
        ai_generated: bool,
        metadata: dict[str, Any],
    ) -> Any: ...

    async def query_memories(self, tenant_id: str, query: Any) -> Any: ...


class WebUIMemory:
    """A `HostMemory` for a host that offers `store_web_ui_memory` and `query_memories`."""

    def __init__(self, service: WebUIMemoryService) -> None:
        self._service = service

    async def remember(self, turn: Turn) -> None:
        """Hand a stored turn on. A turn without consent is handed on without its words."""
        metadata = turn.metadata
        await self._service.store_web_ui_memory(
            tenant_id=turn.tenant_id,
            content=turn.user_text or "",
            memory_type=MEMORY_TYPE,
            tags=[tag for tag in (metadata.intent_detected, metadata.sentiment_detected) if tag],
            ai_generated=False,
            metadata={**metadata.to_dict(), "assistant_response": turn.assistant_response},
        )

    async def turns(self, tenant_id: str, query: Any = None) -> AsyncIterator[ImportedLine]:
        """What the host remembers, as lines for `learner.ingest(tenant_id, memory.turns(tenant_id))`.

        A memory that is no turn is reported with its position, as a line of a file would be.
        """
        for position, memory in enumerate(await self._service.query_memories(tenant_id, query), start=1):
            yield _as_line(position, memory)


def as_host_memory(service: object) -> HostMemory:
    """The memory itself, or a host's wrapped. Raises InvalidInput for an object that is neither."""
    if isinstance(service, HostMemory):
        return service
    if isinstance(service, WebUIMemoryService):
        return WebUIMemory(service)
    raise InvalidInput(
        f"{type(service).__name__} is no memory: it needs `remember(turn)`, or `store_web_ui_memory` "
        "and `query_memories`"
    )


def _as_line(position: int, memory: Any) -> ImportedLine:
    try:
        fields = memory if isinstance(memory, Mapping) else vars(memory)
        details = fields.get("metadata") or {}
        details = json.loads(details) if isinstance(details, str) else details
        turn = TurnInput(
            user_text=fields.get("content", ""),
            assistant_response=details.get("assistant_response") or "",
            user_id=details.get("user_id", "unknown"),
            conversation_id=details.get("conversation_id"),
            turn_id=details.get("turn_id"),
            occurred_at=details.get("occurred_at"),
            tenant_id=details.get("tenant_id", fields.get("tenant_id")),
        )
    except (TypeError, ValueError, AttributeError) as error:
        return ImportedLine(line=position, error=f"not a turn: {error}")
    return ImportedLine(line=position, value=turn)
