"""Adapters for chat products with their own analyzer or memory."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from karen_learner.contracts import Analyzer, HostMemory, MemoryStore
from karen_learner.corpora.parsing import ImportedLine, TurnInput
from karen_learner.errors import InvalidInput
from karen_learner.records import Analysis, Entity, Turn

__all__ = ["HostAnalyzer", "MemoryType", "WebUIMemory", "as_analyzer", "as_host_memory", "as_store"]

logger = logging.getLogger(__name__)

UNKNOWN_CONFIDENCE = 0.5
"""Confidence of a label without a probability."""
MEMORY_TAGS = ("autonomous_learning", "conversation_metadata")


class MemoryType(StrEnum):
    """Kind of a memory in the host. A host may have an enum of its own."""

    INSIGHT = "insight"


@runtime_checkable
class AsyncDetectors(Protocol):
    """A host's analyzer with one coroutine per task.

    Intent and sentiment are a label, a `(label, confidence)` pair, or a mapping with `label` (or
    `intent`, `sentiment`) and `confidence` (or `score`). Entities are mappings with `start`, `end` and
    `label`, or `(text, label)` pairs.
    """

    async def _detect_intent_async(self, text: str) -> Any: ...
    async def _sentiment_async(self, text: str) -> Any: ...
    async def _entities_async(self, text: str) -> Any: ...


class SingleTextAnalyzer:
    """Adapts an analyzer without `analyze_many`.

    Each deployment calls `on_deployed(version, path)` of the host, sync or async, if the host has it.
    """

    def __init__(self, host: Any) -> None:
        self._host = host

    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
        """The analysis of one text. Errors of the host propagate."""
        analysis: Analysis = await self._host.analyze(text, tenant_id=tenant_id)
        return analysis

    async def analyze_many(self, texts: Sequence[str], *, tenant_id: str | None = None) -> list[Analysis]:
        """The analyses in the order of the texts, by concurrent calls of `analyze`."""
        return list(await asyncio.gather(*(self.analyze(text, tenant_id=tenant_id) for text in texts)))

    async def on_deployed(self, version: str, path: Path) -> None:
        listener = getattr(self._host, "on_deployed", None)
        if listener is not None:
            answer = listener(version, path)
            if inspect.isawaitable(answer):
                await answer


class HostAnalyzer(SingleTextAnalyzer):
    """Adapts a host with `_detect_intent_async`, `_sentiment_async` and `_entities_async`."""

    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:  # noqa: ARG002
        intent, intent_confidence = as_label(await self._host._detect_intent_async(text), "intent")
        sentiment, sentiment_confidence = as_label(await self._host._sentiment_async(text), "sentiment")
        return Analysis(
            intent=intent,
            intent_confidence=intent_confidence,
            sentiment=sentiment,
            sentiment_confidence=sentiment_confidence,
            entities=as_entities(await self._host._entities_async(text), text),
        )


def as_analyzer(analyzer: object) -> Analyzer:
    """The analyzer itself, or an adapter of a host's analyzer. Raises InvalidInput for other objects."""
    if isinstance(analyzer, Analyzer):
        return analyzer
    if hasattr(analyzer, "analyze") and hasattr(analyzer, "on_deployed"):
        return SingleTextAnalyzer(analyzer)
    if isinstance(analyzer, AsyncDetectors):
        return HostAnalyzer(analyzer)
    if isinstance(analyzer, (str, Path)) or hasattr(analyzer, "pipe_names"):
        raise InvalidInput("a pipeline is no analyzer: pass create_spacy_analyzer(pipeline)")
    raise InvalidInput(
        f"{type(analyzer).__name__} is no analyzer: it needs `analyze` and `on_deployed`, or "
        "`_detect_intent_async`, `_sentiment_async` and `_entities_async`"
    )


def as_label(answer: Any, task: str) -> tuple[str | None, float]:
    """Label and confidence of an answer in any supported form."""
    if isinstance(answer, Mapping):
        label = answer.get("label", answer.get(task))
        confidence = answer.get("confidence", answer.get("score", UNKNOWN_CONFIDENCE))
    elif isinstance(answer, (tuple, list)) and len(answer) == 2:
        label, confidence = answer
    else:
        label, confidence = answer, UNKNOWN_CONFIDENCE
    if not label:
        return None, 0.0
    return str(label), min(1.0, max(0.0, float(confidence)))


def as_entities(answer: Iterable[Any] | None, text: str) -> tuple[Entity, ...]:
    """Entities with offsets. `(text, label)` pairs are located from left to right.

    An entity that is not in the text is omitted.
    """
    entities: list[Entity] = []
    searched_to = 0
    for item in answer or ():
        entity = _as_entity(item, text, searched_to)
        if entity is None:
            logger.debug("entity of the host omitted: it is not in the text")
            continue
        entities.append(entity)
        searched_to = entity.end
    return tuple(entities)


def _as_entity(item: Any, text: str, searched_to: int) -> Entity | None:
    if isinstance(item, Mapping):
        start, end, label = item.get("start"), item.get("end"), item.get("label")
        if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end <= len(text):
            return None
    else:
        words, label = item
        start = text.find(str(words), searched_to)
        end = start + len(str(words))
        if start < 0 or end == start:
            return None
    return Entity(start=start, end=end, label=str(label), text=text[start:end])


@runtime_checkable
class WebUIMemoryService(Protocol):
    """The memory of a chat web interface."""

    async def store_web_ui_memory(
        self,
        *,
        tenant_id: str,
        content: str,
        memory_type: Any,
        tags: list[str],
        ai_generated: bool,
        metadata: dict[str, Any],
    ) -> Any: ...

    async def query_memories(self, tenant_id: str, query: Any) -> Any: ...


class WebUIMemory:
    """A `HostMemory` for a host with `store_web_ui_memory` and `query_memories`.

    `memory_type` is the value for the host, for example a member of its own enum.
    """

    def __init__(self, service: WebUIMemoryService, *, memory_type: object = MemoryType.INSIGHT) -> None:
        self._service = service
        self._memory_type = memory_type

    async def remember(self, turn: Turn) -> None:
        """Send a stored turn to the host. A turn without consent is sent without its texts."""
        metadata = turn.metadata
        await self._service.store_web_ui_memory(
            tenant_id=turn.tenant_id,
            content=turn.user_text or "",
            memory_type=self._memory_type,
            tags=list(MEMORY_TAGS),
            ai_generated=True,
            metadata={**metadata.to_dict(), "assistant_response": turn.assistant_response},
        )

    async def turns(self, tenant_id: str, query: Any = None) -> AsyncIterator[ImportedLine]:
        """Memories of the host, as lines for `learner.ingest(tenant_id, memory.turns(tenant_id))`.

        A memory that is no turn becomes a line with an error and its position.
        """
        for position, memory in enumerate(await self._service.query_memories(tenant_id, query), start=1):
            yield _as_line(position, memory)


def as_host_memory(service: object) -> HostMemory:
    """The memory itself, or an adapter of a host's memory. Raises InvalidInput for other objects."""
    if isinstance(service, HostMemory):
        return service
    if isinstance(service, WebUIMemoryService):
        return WebUIMemory(service)
    raise InvalidInput(
        f"{type(service).__name__} is no memory: it needs `remember(turn)`, or `store_web_ui_memory` "
        "and `query_memories`"
    )


def as_store(store: object) -> MemoryStore:
    """The store itself. Raises InvalidInput with the names of the methods of `MemoryStore` that it lacks."""
    names = (name for name in dir(MemoryStore) if not name.startswith("_"))
    missing = [name for name in names if not hasattr(store, name)]
    if missing:
        raise InvalidInput(
            f"{type(store).__name__} is no MemoryStore of this release: implement {', '.join(missing)}"
        )
    return cast(MemoryStore, store)


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
