"""The analyzer for spaCy models: the live model of a tenant, else a base model, else the fallback."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from weakref import WeakKeyDictionary

from spacy.language import Language
from spacy.tokens import Doc

from karen_learner.analysis.analyses import analysis_of, linguistic_features
from karen_learner.analysis.fallback import analyze_without_model, answer_without_model
from karen_learner.components.documents import make_doc
from karen_learner.concurrency import Batcher, cut_into_batches
from karen_learner.contracts import Analyzer, BasePipelineInfo
from karen_learner.errors import KarenLearnerError, LearnerClosed, ModelError, trace_of
from karen_learner.models.live import LiveModel, LiveModels, forget_frames
from karen_learner.records import Analysis, Entity, check_id, check_several, check_text, replace_unfit
from karen_learner.relabelling import relabelled_analysis
from karen_learner.settings import AnalysisSettings, Fallback, Settings

ModelLoader = Callable[[], LiveModel]
logger = logging.getLogger(__name__)
MAX_BATCH_CHARS = 32_000
"""Maximum number of characters in a batch: long texts must not delay many short ones."""
Batch = tuple[list[Analysis], Exception | None]
"""The analyses of a batch, and the first error."""


class SpacyAnalyzer:
    """Analyses texts with the live model of the tenant, else with `base`, else with the fallback.

    Concurrent calls of an event loop share batches. Several event loops, and children of a fork, can use the
    same analyzer. If the model fails on a text, the fallback answers (`degraded`); the
    error is logged once until the model answers again. `base` may be a function that loads the model: it is
    called in a thread at first use. Without `has_pipes` it is a tokenizer. A deployment installs its model
    into `models`.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        models: LiveModels,
        base: LiveModel | ModelLoader | None = None,
        has_pipes: bool = True,
    ) -> None:
        self._settings = settings
        self._has_pipes = has_pipes
        self.models = models
        self._base = None if callable(base) else base
        self._load_base = base if callable(base) else None
        self._base_error: ModelError | None = None
        self._loads: dict[int, Future[LiveModel]] = {}
        self._queues: dict[asyncio.AbstractEventLoop, WeakKeyDictionary[LiveModel, ModelQueue]] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        await self.load()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def load(self) -> None:
        """Load the base model now, not at the first text. Raises ModelError."""
        await self.base_model()

    def close(self) -> None:
        """Close the live models and the base model; queued texts are analysed. Idempotent."""
        self._closed = True
        self.models.close()
        if self._base is not None:
            self._base.close()

    # Analyses --------------------------------------------------------------------------------

    async def analyze(
        self, text: str, *, tenant_id: str | None = None, user_id: str | None = None
    ) -> Analysis:
        """The analysis of a text. Raises InvalidInput for an unusable text, LearnerClosed.

        A holdback keeps some users on another version.
        """
        text = self._clean(text)
        model = await self._model(tenant_id, user_id)
        if model is None:
            return await answer_without_model(text, self._fallback(tenant_id))
        found = await self._queue(model, tenant_id).analyze(AnalysisRequest(model, text))
        return relabelled_analysis(found, model.successors) if model.successors else found

    async def analyze_many(
        self, texts: Sequence[str], *, tenant_id: str | None = None, user_id: str | None = None
    ) -> list[Analysis]:
        """The analyses of many texts, in order and by one model. Raises InvalidInput before the first
        analysis."""
        cleaned = [self._clean(text) for text in check_several(texts, "texts")]
        model = await self._model(tenant_id, user_id)
        if model is None:
            return [await answer_without_model(text, self._fallback(tenant_id)) for text in cleaned]
        found = await self._queue(model, tenant_id).analyze_many(model, cleaned)
        return [relabelled_analysis(one, model.successors) for one in found] if model.successors else found

    async def detect_intent(self, text: str, *, tenant_id: str | None = None) -> tuple[str | None, float]:
        """The intent and its confidence; (None, 0.0) without a detected intent."""
        analysis = await self.analyze(text, tenant_id=tenant_id)
        return analysis.intent, analysis.intent_confidence

    async def sentiment(self, text: str, *, tenant_id: str | None = None) -> tuple[str | None, float]:
        """The sentiment and its confidence; (None, 0.0) without a detected sentiment."""
        analysis = await self.analyze(text, tenant_id=tenant_id)
        return analysis.sentiment, analysis.sentiment_confidence

    async def entities(self, text: str, *, tenant_id: str | None = None) -> tuple[Entity, ...]:
        """The detected entities."""
        return (await self.analyze(text, tenant_id=tenant_id)).entities

    async def on_deployed(self, version: str, path: Path) -> None:
        """Nothing to do: the deployment has installed the model into `models`."""

    def _clean(self, text: str) -> str:
        limit = self._settings.analysis.max_text_chars
        return replace_unfit(
            check_text(text, limit=limit, what="the text", setting="analysis.max_text_chars")
        )

    async def _model(self, tenant_id: str | None, user_id: str | None = None) -> LiveModel | None:
        self._require_open()
        if user_id is not None:
            check_id(user_id, "user_id")
        live = None if tenant_id is None else self.models.get(tenant_id, user_id)
        return live or await self.base_model()

    def _fallback(self, tenant_id: str | None) -> Fallback:
        return self._settings.of(tenant_id).analysis.fallback

    def _queue(self, model: LiveModel, tenant_id: str | None) -> ModelQueue:
        queues = self._queues_of_loop()
        queue = queues.get(model)
        if queue is None:
            settings = self._settings.of(tenant_id).analysis
            queue = queues[model] = ModelQueue(settings, timeout_s=settings.timeout_s)
        return queue

    def _queues_of_loop(self) -> WeakKeyDictionary[LiveModel, ModelQueue]:
        loop = asyncio.get_running_loop()
        queues = self._queues.get(loop)
        if queues is None:
            for ended in [known for known in list(self._queues) if known.is_closed()]:
                self._queues.pop(ended, None)
            queues = self._queues[loop] = WeakKeyDictionary()
        return queues

    def _require_open(self) -> None:
        if self._closed:
            raise LearnerClosed("the analyzer was closed")

    # The base model --------------------------------------------------------------------------

    async def base_model(self) -> LiveModel | None:
        """The model for tenants without a live model, loaded at first use. Raises ModelError."""
        if self._load_base is not None:
            await self._load_once(self._load_base)
            self._require_open()
        return self._base

    async def _load_once(self, load: ModelLoader) -> None:
        """Load in a thread, once in this process for callers of all event loops."""
        if self._base_error is not None:  # do not repeat a failed load for every text
            raise self._base_error.with_traceback(None)
        own: Future[LiveModel] = Future()
        loading = self._loads.setdefault(os.getpid(), own)
        if loading is own:
            asyncio.get_running_loop().run_in_executor(None, self._load_into, own, load)
        await asyncio.shield(asyncio.wrap_future(loading))

    def _load_into(self, loading: Future[LiveModel], load: ModelLoader) -> None:
        try:
            self._base = load()
        except BaseException as error:
            if isinstance(error, ModelError):
                self._base_error = error
            self._loads.clear()
            loading.set_exception(error)
            return
        self._load_base = None
        if self._closed:
            self._base.close()
        loading.set_result(self._base)

    async def base_with_tasks(self) -> LiveModel | None:
        """The base model; None without a task. A mere tokenizer is not loaded. Raises ModelError."""
        model = await self.base_model() if self._has_pipes else None
        return model if model is not None and model.tasks else None

    async def base_pipeline(self) -> BasePipelineInfo | None:
        """The pipeline that new tenants start from; None without a task. Raises ModelError."""
        model = await self.base_with_tasks()
        if model is None:
            return None
        return BasePipelineInfo(version=model.version, tasks=dict(model.tasks), language=model.language)

    async def write_base_pipeline(self, folder: Path) -> None:
        """Write that pipeline to a folder. Raises ModelError."""
        model = await self.base_model()
        if model is None:
            raise ModelError("the analyzer has no base model to write")
        await model.run(lambda nlp: nlp.to_disk(folder))


def user_argument(analyzer: Analyzer, user_id: str | None) -> dict[str, str]:
    """The argument `user_id` of an analysis, for an analyzer that knows users. That of a host does not."""
    return {"user_id": user_id} if user_id is not None and isinstance(analyzer, SpacyAnalyzer) else {}


def live_models(settings: AnalysisSettings) -> LiveModels:
    """An empty pool with the limits of the settings."""
    return LiveModels(settings.live_models, max_bytes=settings.live_models_bytes)


def live_models_of(analyzer: Analyzer, settings: AnalysisSettings) -> LiveModels:
    """The live models that the analyzer serves; a new pool for other kinds of analyzers."""
    return analyzer.models if isinstance(analyzer, SpacyAnalyzer) else live_models(settings)


class AnalysisRequest(NamedTuple):
    """A text and its model. The reference keeps a replaced model alive until the text is analysed."""

    model: LiveModel
    text: str


class ModelQueue:
    """Batches the requests for one model. Holds no reference to it: the requests do.

    If a batch takes longer than `timeout_s`, the fallback answers it, and further ones until the model has
    finished it. With None a batch may take any time.
    """

    def __init__(self, settings: AnalysisSettings, *, timeout_s: float | None = None) -> None:
        self._max_batch = settings.max_batch
        self._fallback = settings.fallback
        self._timeout_s = timeout_s
        self._overdue: asyncio.Future[Batch] | None = None
        self._failing = False
        self._batcher: Batcher[AnalysisRequest, Analysis] = Batcher(
            self._answer,
            max_batch=settings.max_batch,
            queue_size=settings.queue_size,
            weigh=_chars,
            max_weight=MAX_BATCH_CHARS,
            skip_cancelled=True,
        )

    async def analyze(self, request: AnalysisRequest) -> Analysis:
        """The analysis of one text, in a batch with concurrent requests."""
        return await self._batcher.submit(request)

    async def analyze_many(self, model: LiveModel, texts: Sequence[str]) -> list[Analysis]:
        """The analyses of many texts. Requests of other callers run between the batches.

        A single text is analysed in a batch with concurrent requests.
        """
        if len(texts) == 1:
            return [await self.analyze(AnalysisRequest(model, texts[0]))]
        requests = [AnalysisRequest(model, text) for text in texts]
        analyses: list[Analysis] = []
        for batch in cut_into_batches(
            requests, max_batch=self._max_batch, weigh=_chars, max_weight=MAX_BATCH_CHARS
        ):
            analyses.extend(await self._answer(batch))
        return analyses

    async def _answer(self, requests: Sequence[AnalysisRequest]) -> Sequence[Analysis]:
        model, fallback = requests[0].model, self._fallback
        texts = [request.text for request in requests]
        finished: Batch | None = None
        if self._overdue is None or self._overdue.done():
            run = model.run(lambda nlp: analyze_batch(nlp, texts, model=model, fallback=fallback))
            finished = await self._in_time(asyncio.ensure_future(run))
        if finished is None:
            late = TimeoutError(f"a batch takes longer than analysis.timeout_s = {self._timeout_s:g}")
            finished = [await answer_without_model(text, fallback) for text in texts], late
        analyses, error = finished
        self._log(error, model.version or "without a version")
        return analyses

    async def _in_time(self, running: asyncio.Future[Batch]) -> Batch | None:
        """The result of a batch; None if it takes too long, and the model still works on it."""
        try:
            done, _ = await asyncio.wait([running], timeout=self._timeout_s)
        except asyncio.CancelledError:
            running.cancel()
            raise
        if done:
            return running.result()
        running.add_done_callback(_retrieve)
        self._overdue = running
        return None

    def _log(self, error: Exception | None, version: str) -> None:
        """Log the first failure, and the first success after it. Errors of pipes may quote the text."""
        extra = {"model_version": version}
        if error is not None and not self._failing:
            is_own = isinstance(error, (KarenLearnerError, TimeoutError))
            logger.error(
                "the model %s failed on a text, the fallback answers instead: %s",
                version, error if is_own else trace_of(error), extra=extra,
            )  # fmt: skip
        if error is None and self._failing:
            logger.warning("the model %s answers again", version, extra=extra)
        self._failing = error is not None


def _retrieve(late: asyncio.Future[Batch]) -> None:
    """Read the error of a late batch, such as LearnerClosed: asyncio warns of unread errors."""
    if not late.cancelled():
        late.exception()


def _chars(request: AnalysisRequest) -> int:
    return len(request.text)


def analyze_batch(
    nlp: Language, texts: Sequence[str], *, model: LiveModel, fallback: Fallback = "none"
) -> Batch:
    """Analyses of the texts, and the first error. The fallback analyses the texts on which the model fails.

    Runs on the inference thread of the model, inside a memory zone.
    """
    try:
        return list(_analyses(nlp, texts, model, fallback)), None
    except Exception as error:
        forget_frames(error)  # of the calls above: they hold docs
        return [_analyze_alone(nlp, text, model, fallback) for text in texts], error


def _analyses(
    nlp: Language, texts: Sequence[str], model: LiveModel, fallback: Fallback
) -> Iterator[Analysis]:
    docs = nlp.pipe((make_doc(nlp, text) for text in texts), batch_size=len(texts))
    return (_analysis(doc, text, model, fallback) for doc, text in zip(docs, texts, strict=True))


def _analyze_alone(nlp: Language, text: str, model: LiveModel, fallback: Fallback) -> Analysis:
    try:
        return _analysis(nlp(make_doc(nlp, text)), text, model, fallback)
    except Exception:  # the queue logs the error of the batch
        return _degraded(nlp, text, fallback)


def _analysis(doc: Doc, text: str, model: LiveModel, fallback: Fallback) -> Analysis:
    return analysis_of(doc, text, model) or _without_model(doc, text, fallback)


def _without_model(doc: Doc, text: str, fallback: Fallback) -> Analysis:
    """The analysis of the fallback, with the features of the tokens."""
    features = linguistic_features(doc, text=text)
    return analyze_without_model(text, fallback).model_copy(update={"linguistic_features": features})


def _degraded(nlp: Language, text: str, fallback: Fallback) -> Analysis:
    try:
        return _without_model(make_doc(nlp, text), text, fallback)
    except Exception:  # the tokenizer fails, too
        return analyze_without_model(text, fallback)
