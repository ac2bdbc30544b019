"""Batched analysis with one live model: a queue of requests, and the conversion of documents to analyses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from spacy.language import Language
from spacy.tokens import Doc

from karen_learner.analysis.fallback import analyze_without_model, answer_without_model
from karen_learner.analysis.features import linguistic_features
from karen_learner.batching import Batcher, cut_into_batches
from karen_learner.components.documents import make_doc
from karen_learner.components.textcat.pipe import is_out_of_scope
from karen_learner.models.live import LiveModel, forget_frames
from karen_learner.records import Analysis
from karen_learner.settings import AnalysisSettings, Fallback

logger = logging.getLogger(__name__)

MAX_BATCH_CHARS = 32_000
"""Maximum number of characters in a batch: long texts must not delay many short ones."""


Batch = tuple[list[Analysis], Exception | None]
"""The analyses of a batch, and the first error."""


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
        """The analyses of many texts. Requests of other callers run between the batches."""
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
        """Log the first failure, and the first success after it."""
        extra = {"model_version": version}
        if error is not None and not self._failing:
            logger.error(
                "the model %s failed on a text, the fallback answers instead: %s",
                version, error, exc_info=error, extra=extra,
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
) -> tuple[list[Analysis], Exception | None]:
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
    """The analysis of a document. Both text categorizers write `doc.cats`: labels assign them to tasks."""
    intents, sentiments = model.labels("intent"), model.labels("sentiment")
    intent_pipe, has_entities = model.tasks.get("intent"), "entities" in model.tasks
    if not (intents or sentiments or has_entities):
        return _without_model(doc, text, fallback)
    intent, intent_confidence = best_category(doc.cats, intents)
    sentiment, sentiment_confidence = best_category(doc.cats, sentiments)
    # One validation of the whole record costs 2 µs more than `model_construct`, and rejects NaN.
    return Analysis.model_validate(
        {
            "intent": intent,
            "intent_confidence": intent_confidence,
            "out_of_scope": intent_pipe is not None and is_out_of_scope(doc, intent_pipe),
            "sentiment": sentiment,
            "sentiment_confidence": sentiment_confidence,
            "entities": _entities(doc, text) if has_entities else (),
            "linguistic_features": linguistic_features(doc, text=text),
            "model_version": model.version,
        }
    )


def _without_model(doc: Doc, text: str, fallback: Fallback) -> Analysis:
    """The analysis of the fallback, with the features of the tokens."""
    features = linguistic_features(doc, text=text)
    return analyze_without_model(text, fallback).model_copy(update={"linguistic_features": features})


def _degraded(nlp: Language, text: str, fallback: Fallback) -> Analysis:
    try:
        return _without_model(make_doc(nlp, text), text, fallback)
    except Exception:  # the tokenizer fails, too
        return analyze_without_model(text, fallback)


def best_category(cats: Mapping[str, float], labels: Sequence[str]) -> tuple[str | None, float]:
    """The label with the highest score, and the score; (None, 0.0) if no label has a score."""
    if not labels:
        return None, 0.0
    scores = [cats.get(label, 0.0) for label in labels]
    top = max(scores)
    if top == 0.0:
        return None, 0.0
    return labels[scores.index(top)], 1.0 if top > 1.0 else top


def _entities(doc: Doc, text: str) -> list[dict[str, int | str]]:
    return [
        {"start": start, "end": end, "label": span.label_, "text": text[start:end]}
        for span in doc.ents
        for start, end in [(span.start_char, span.end_char)]
    ]
