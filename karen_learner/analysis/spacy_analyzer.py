"""The analyzer that serves spaCy models: one live model a tenant, a base model, and rules behind them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from weakref import WeakKeyDictionary

from asyncio_extras import call_in_executor

from karen_learner.analysis.batching import MicroBatcher, batches
from karen_learner.analysis.fallback import RuleBasedFallback
from karen_learner.analysis.reading import Reader, Said
from karen_learner.analysis.text import clean_text
from karen_learner.errors import LearnerClosed, ModelError
from karen_learner.models.live import LiveModel, LiveModels
from karen_learner.records import NO_MOOD, Analysis, Entity, Mood
from karen_learner.settings import Settings

logger = logging.getLogger(__name__)

ModelLoader = Callable[[], LiveModel]

MAX_BATCH_CHARS = 32_000
"""A batch ends at this many characters: long texts must not make many short ones wait."""


class _Job(NamedTuple):
    """A text on its way. It holds the model, so that a model in use outlives its replacement."""

    model: LiveModel
    said: Said


class _Lane:
    """The way to one model: its batcher, and whether it has been failing. Does not hold the model."""

    def __init__(self, model: LiveModel, *, settings: Settings, fallback: RuleBasedFallback) -> None:
        self._reader = Reader.of(model, fallback=fallback)
        self._failing = False
        self._batcher: MicroBatcher[_Job, Analysis] = MicroBatcher(
            self.answer,
            max_batch=settings.analysis.max_batch,
            queue_size=settings.analysis.queue_size,
            weigh=_chars,
            max_weight=MAX_BATCH_CHARS,
        )

    async def submit(self, job: _Job) -> Analysis:
        return await self._batcher.submit(job)

    async def answer(self, jobs: Sequence[_Job]) -> Sequence[Analysis]:
        """One pass through the pipeline. All jobs are for the model of this lane."""
        said = [job.said for job in jobs]
        reading = await jobs[0].model.run(lambda nlp: self._reader.read(nlp, said))
        self._note(reading.error)
        return reading.analyses

    def _note(self, error: Exception | None) -> None:
        """Log when the model begins to fail and when it is well again, and nothing in between."""
        version = self._reader.version or "without a version"
        if error is not None and not self._failing:
            logger.error(
                "the model %s failed on a text, the fallback answers instead: %s",
                version,
                error,
                exc_info=error,
                extra={"model_version": version},
            )
        if error is None and self._failing:
            logger.warning("the model %s answers again", version, extra={"model_version": version})
        self._failing = error is not None


class SpacyAnalyzer:
    """Analyses texts with the tenant's live model, else with `base`, else by rules.

    Calls that come together share a pass through the pipeline. A text that the model cannot read gets
    the fallback's answer (`degraded`); the cause is logged once until the model has recovered. `base`
    may be a function that loads the model: it is called in a thread when it is first needed.
    """

    hears_moods = True

    def __init__(
        self,
        *,
        settings: Settings,
        models: LiveModels,
        base: LiveModel | ModelLoader | None = None,
        fallback: RuleBasedFallback | None = None,
    ) -> None:
        self._settings = settings
        self._models = models
        self._base = None if callable(base) else base
        self._load_base = base if callable(base) else None
        self._base_error: ModelError | None = None
        self._loading = asyncio.Lock()
        self._fallback = fallback or RuleBasedFallback()
        self._lanes: WeakKeyDictionary[LiveModel, _Lane] = WeakKeyDictionary()
        self._closed = False

    @property
    def models(self) -> LiveModels:
        """Where a deployed model is installed for its tenant."""
        return self._models

    async def __aenter__(self) -> Self:
        await self.load()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def load(self) -> None:
        """Load the base model now rather than at the first text. Raises ModelError."""
        await self.base_model()

    def close(self) -> None:
        """Close the live models and the base model: what is queued in them finishes. Idempotent."""
        self._closed = True
        self._models.close()
        if self._base is not None:
            self._base.close()

    async def analyze(self, text: str, *, tenant_id: str | None = None, mood: Mood = NO_MOOD) -> Analysis:
        """What the text says. Raises InvalidInput for a text that cannot be read, LearnerClosed.

        `mood`: how the turns before it sounded, if it was said in a conversation.
        """
        text = self._clean(text)
        model = await self._model(tenant_id)
        if model is None:
            return (await self._by_rules([text]))[0]
        return await self._lane(model).submit(_Job(model, Said(text, mood)))

    async def analyze_many(self, texts: Sequence[str], *, tenant_id: str | None = None) -> list[Analysis]:
        """The analyses of many texts, in order and all by the same model. Other calls get their turn
        between the batches. Raises InvalidInput if one of them cannot be read; then none is."""
        cleaned = [self._clean(text) for text in texts]
        model = await self._model(tenant_id)
        analyses: list[Analysis] = []
        for batch in self._batches(cleaned):
            analyses.extend(await self._answer_batch(model, batch))
        return analyses

    async def detect_intent(self, text: str, *, tenant_id: str | None = None) -> tuple[str | None, float]:
        """The intent and its confidence; (None, 0.0) if the model tells none."""
        analysis = await self.analyze(text, tenant_id=tenant_id)
        return analysis.intent, analysis.intent_confidence

    async def sentiment(self, text: str, *, tenant_id: str | None = None) -> tuple[str | None, float]:
        """The sentiment and its confidence; (None, 0.0) if the model tells none."""
        analysis = await self.analyze(text, tenant_id=tenant_id)
        return analysis.sentiment, analysis.sentiment_confidence

    async def entities(self, text: str, *, tenant_id: str | None = None) -> tuple[Entity, ...]:
        """The entities found in the text."""
        return (await self.analyze(text, tenant_id=tenant_id)).entities

    async def base_model(self) -> LiveModel | None:
        """The model that answers where a tenant has none, loaded if need be. Raises ModelError."""
        if self._load_base is not None:
            async with self._loading:
                await self._load_once()
            self._require_open()
        return self._base

    async def _load_once(self) -> None:
        if self._base_error is not None:  # what failed for good must not be tried for every text
            raise self._base_error.with_traceback(None)
        if self._load_base is None:
            return
        try:
            self._base = await call_in_executor(self._load_base)
        except ModelError as error:
            self._base_error = error
            raise
        self._load_base = None
        if self._closed and self._base is not None:
            self._base.close()

    async def on_deployed(self, version: str, path: Path) -> None:
        """Nothing to do: who deploys installs the model into `models` before telling anybody."""

    def _clean(self, text: str) -> str:
        limit = self._settings.analysis.max_text_chars
        return clean_text(text, limit=limit, what="the text", setting="analysis.max_text_chars")

    async def _model(self, tenant_id: str | None) -> LiveModel | None:
        self._require_open()
        live = None if tenant_id is None else self._models.get(tenant_id)
        return live or await self.base_model()

    def _require_open(self) -> None:
        if self._closed:
            raise LearnerClosed("the analyzer was closed")

    def _lane(self, model: LiveModel) -> _Lane:
        lane = self._lanes.get(model)
        if lane is None:
            lane = self._lanes[model] = _Lane(model, settings=self._settings, fallback=self._fallback)
        return lane

    def _batches(self, texts: Sequence[str]) -> Sequence[Sequence[str]]:
        max_batch = self._settings.analysis.max_batch
        return list(batches(texts, max_batch=max_batch, weigh=len, max_weight=MAX_BATCH_CHARS))

    async def _answer_batch(self, model: LiveModel | None, texts: Sequence[str]) -> Sequence[Analysis]:
        if model is None:
            return await self._by_rules(texts)
        return await self._lane(model).answer([_Job(model, Said(text, NO_MOOD)) for text in texts])

    async def _by_rules(self, texts: Sequence[str]) -> list[Analysis]:
        return [await self._fallback.answer(text) for text in texts]


def _chars(job: _Job) -> int:
    return len(job.said.text)
