"""A host's own analyzer in the place of ours: it supplies the metadata, and is told of deployments."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from karen_learner.contracts import Analyzer
from karen_learner.errors import InvalidInput
from karen_learner.records import Analysis, Entity

logger = logging.getLogger(__name__)

UNKNOWN_CONFIDENCE = 0.5
"""For a host that tells a label without a probability."""


@runtime_checkable
class AsyncDetectors(Protocol):
    """A host's analyzer with one coroutine a task.

    Intent and sentiment are a label, a `(label, confidence)` pair, or a mapping with `label` (or
    `intent`, `sentiment`) and `confidence` (or `score`). Entities are mappings with `start`, `end` and
    `label`, or `(text, label)` pairs.
    """

    async def _detect_intent_async(self, text: str) -> Any: ...
    async def _sentiment_async(self, text: str) -> Any: ...
    async def _entities_async(self, text: str) -> Any: ...


class SingleTexts(Protocol):
    """A host's analyzer without `analyze_many`."""

    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis: ...
    async def on_deployed(self, version: str, path: Path) -> None: ...


async def analyze_each(
    host: SingleTexts, texts: Sequence[str], *, tenant_id: str | None = None
) -> list[Analysis]:
    """The analyses of many texts by concurrent calls of `analyze`, in order."""
    return list(await asyncio.gather(*(host.analyze(text, tenant_id=tenant_id) for text in texts)))


class SingleTextAnalyzer:
    """Adapts an analyzer without `analyze_many`."""

    def __init__(self, host: SingleTexts) -> None:
        self._host = host

    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
        return await self._host.analyze(text, tenant_id=tenant_id)

    async def analyze_many(self, texts: Sequence[str], *, tenant_id: str | None = None) -> list[Analysis]:
        return await analyze_each(self, texts, tenant_id=tenant_id)

    async def on_deployed(self, version: str, path: Path) -> None:
        await self._host.on_deployed(version, path)


class HostAnalyzer:
    """Adapts a host with `_detect_intent_async`, `_sentiment_async` and `_entities_async`.

    If the host has a method `on_deployed(version, path)`, plain or async, it is called after each deployment.
    """

    def __init__(self, host: AsyncDetectors) -> None:
        self._host = host

    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:  # noqa: ARG002
        """Ask the host for each task. What the host raises is raised."""
        intent, intent_confidence = as_label(await self._host._detect_intent_async(text), "intent")
        sentiment, sentiment_confidence = as_label(await self._host._sentiment_async(text), "sentiment")
        return Analysis(
            intent=intent,
            intent_confidence=intent_confidence,
            sentiment=sentiment,
            sentiment_confidence=sentiment_confidence,
            entities=as_entities(await self._host._entities_async(text), text),
        )

    async def analyze_many(self, texts: Sequence[str], *, tenant_id: str | None = None) -> list[Analysis]:
        """The analyses of many texts by concurrent calls, in order."""
        return await analyze_each(self, texts, tenant_id=tenant_id)

    async def on_deployed(self, version: str, path: Path) -> None:
        """Call `on_deployed` of the host, if it has one."""
        listener = getattr(self._host, "on_deployed", None)
        if listener is not None:
            answer = listener(version, path)
            if inspect.isawaitable(answer):
                await answer


def as_analyzer(analyzer: object) -> Analyzer:
    """The analyzer itself, or an adapter of a host's analyzer. Raises InvalidInput for other objects."""
    if isinstance(analyzer, Analyzer):
        return analyzer
    if hasattr(analyzer, "analyze") and hasattr(analyzer, "on_deployed"):
        return SingleTextAnalyzer(analyzer)
    if isinstance(analyzer, AsyncDetectors):
        return HostAnalyzer(analyzer)
    raise InvalidInput(
        f"{type(analyzer).__name__} is no analyzer: it needs `analyze` and `on_deployed`, or "
        "`_detect_intent_async`, `_sentiment_async` and `_entities_async`"
    )


def as_label(answer: Any, task: str) -> tuple[str | None, float]:
    """A label and its confidence from any of the forms that hosts use."""
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
    """Entities with their offsets; `(text, label)` pairs are looked for from left to right.

    What cannot be found in the text is left out.
    """
    entities: list[Entity] = []
    searched_to = 0
    for item in answer or ():
        entity = _as_entity(item, text, searched_to)
        if entity is None:
            logger.debug("an entity of the host is not in the text: left out")
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
