"""Predictions and scores of trained pipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from spacy.tokens import Doc
from spacy.training import Example

from karen_learner.corpora.docbin import lines_to_docbin, read_examples
from karen_learner.metrics import Span, span_f1
from karen_learner.records import CATEGORY_TASKS, Task
from karen_learner.records.training import PipelineSpec, PredictJob, PredictReport
from karen_learner.training.cache import Predicted, WorkerCache
from karen_learner.training.pipelines import TrainablePipeline

BATCH_SIZE = 256


def predict(job: PredictJob, *, cache: WorkerCache | None = None) -> PredictReport:
    """The predictions of each model for each text of the holdout."""
    cache, holdout = cache or WorkerCache(), job.corpus / "holdout.jsonl"
    predicted = [
        cache.predictions(spec, holdout, partial(_predict_with, spec, holdout)) for spec in job.models
    ]
    return PredictReport(
        rows=tuple(tuple(row for row, _ in one) for one in predicted),
        right=tuple(tuple(right for _, right in one) for one in predicted),
    )


def _predict_with(spec: PipelineSpec, holdout: Path) -> Predicted:
    pipeline = TrainablePipeline.open(spec)
    if not holdout.with_suffix(".spacy").exists():
        lines_to_docbin(pipeline.nlp, holdout, skipped=[])  # for spacy evaluate
    lines = [line.value for line in read_examples(holdout) if line.value is not None]
    docs = pipeline.nlp.pipe((line.text for line in lines), batch_size=BATCH_SIZE)
    labels = {task: pipeline.pipe(task).labels for task in CATEGORY_TASKS if task in pipeline.tasks}
    predicted: Predicted = []
    for doc, line in zip(docs, lines, strict=True):
        intents, sentiments = (
            scores_of(doc, labels[task]) if task in labels else {} for task in CATEGORY_TASKS
        )
        entities = spans_of(doc) if "entities" in pipeline.tasks else None
        row = likeliest(intents), likeliest(sentiments), entities
        right = _probability(intents, line.intent), _probability(sentiments, line.sentiment)
        predicted.append((row, right))
    return predicted


def _probability(scores: Mapping[str, float], label: str | None) -> float | None:
    """The share of a label in the scores of all labels; None for an unknown label."""
    if label is None or label not in scores:
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


def likeliest(scores: Mapping[str, float]) -> str | None:
    """The label with the highest score, the first of equal ones; None without labels."""
    return max(scores, key=scores.__getitem__) if scores else None


def spans_of(doc: Doc) -> tuple[Span, ...]:
    """The entities of a document."""
    return tuple((span.start_char, span.end_char, span.label_) for span in doc.ents)
