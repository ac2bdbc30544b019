"""Predictions and scores of trained pipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spacy.tokens import Doc
from spacy.training import Example

from karen_learner.corpora.docbin import lines_to_docbin, read_examples
from karen_learner.metrics import Span, span_f1
from karen_learner.records import CATEGORY_TASKS, LabelledText, Task
from karen_learner.records.training import (
    PipelineSpec,
    PredictionRow,
    PredictJob,
    PredictReport,
    RightRow,
)
from karen_learner.training.cache import Predicted, WorkerCache
from karen_learner.training.pipelines import TrainablePipeline

BATCH_SIZE = 256
Scores = Mapping[Task, dict[str, float]]
"""The score of each label, by task."""


def predict(job: PredictJob, *, cache: WorkerCache | None = None) -> PredictReport:
    """The predictions of each model for each text of the holdout."""
    cache = cache or WorkerCache()
    predicted = [_predict_with(spec, job.corpus / "holdout.jsonl", cache) for spec in job.models]
    return PredictReport(
        rows=tuple(tuple(row for row, _ in one) for one in predicted),
        right=tuple(tuple(right for _, right in one) for one in predicted),
    )


def _predict_with(spec: PipelineSpec, holdout: Path, cache: WorkerCache) -> Predicted:
    cached = cache.predictions.get(spec, holdout)
    if cached is not None:
        return cached
    pipeline = TrainablePipeline.open(spec)
    if not holdout.with_suffix(".spacy").exists():
        lines_to_docbin(pipeline.nlp, holdout, skipped=[])  # for spacy evaluate
    lines = [line.value for line in read_examples(holdout) if line.value is not None]
    docs = pipeline.nlp.pipe((line.text for line in lines), batch_size=BATCH_SIZE)
    labels = {task: pipeline.pipe(task).labels for task in CATEGORY_TASKS if task in pipeline.tasks}
    predicted = []
    for doc, line in zip(docs, lines, strict=True):
        scores = {task: scores_of(doc, own) for task, own in labels.items()}
        predicted.append((_row(pipeline, doc, scores), _right(scores, line)))
    cache.predictions.put(spec, holdout, predicted)
    return predicted


def _row(pipeline: TrainablePipeline, doc: Doc, scores: Scores) -> PredictionRow:
    entities = spans_of(doc) if "entities" in pipeline.tasks else None
    return likeliest(scores.get("intent")), likeliest(scores.get("sentiment")), entities


def _right(scores: Scores, gold: LabelledText) -> RightRow:
    return (
        _probability(scores.get("intent"), gold.intent),
        _probability(scores.get("sentiment"), gold.sentiment),
    )


def _probability(scores: dict[str, float] | None, label: str | None) -> float | None:
    """The share of a label in the scores of all labels; None for an unknown label."""
    if scores is None or label not in scores:
        return None
    total = sum(scores.values())
    return scores[label] / total if total > 0.0 else None


def score_pipe(task: Task, pipe: Any, examples: Sequence[Example]) -> float:
    """The accuracy of a text categorizer, the F1 of exact spans of an entity recognizer."""
    texts = [example.x.copy() for example in examples]
    pairs = list(zip(examples, pipe.pipe(iter(texts), batch_size=BATCH_SIZE), strict=True))
    if task == "entities":
        return span_f1((spans_of(example.y), spans_of(doc)) for example, doc in pairs)
    labels = pipe.labels
    hits = sum(example.y.cats.get(likeliest(scores_of(doc, labels)) or "") == 1.0 for example, doc in pairs)
    return hits / len(examples)


def scores_of(doc: Doc, labels: Sequence[str]) -> dict[str, float]:
    """The scores of these labels in a document; 0 for a missing one."""
    return {label: doc.cats.get(label, 0.0) for label in labels}


def likeliest(scores: Mapping[str, float] | None) -> str | None:
    """The label with the highest score, the first of equal ones; None without labels."""
    return max(scores, key=scores.__getitem__) if scores else None


def spans_of(doc: Doc) -> tuple[Span, ...]:
    """The entities of a document."""
    return tuple((span.start_char, span.end_char, span.label_) for span in doc.ents)
