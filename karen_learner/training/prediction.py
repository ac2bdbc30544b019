"""Predictions of trained models for lines of a corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from spacy.tokens import Doc

from karen_learner.components.documents import make_doc
from karen_learner.components.textcat.margins import LabelledMargins, pool_margins
from karen_learner.components.textcat.pipe import BaseTextCategorizer
from karen_learner.corpora.docbin import read_examples
from karen_learner.corpora.lines import Line
from karen_learner.corpora.parsing import CorpusLine
from karen_learner.errors import TrainingError
from karen_learner.metrics import Span
from karen_learner.records import CATEGORY_TASKS, Task
from karen_learner.records.training import PipelineSpec, Predicted, PredictionRow, PredictJob, PredictReport
from karen_learner.training.cache import WorkerCache
from karen_learner.training.pipelines import TrainablePipeline
from karen_learner.training.shadow_margins import scaled, share_of, write_margins

BATCH_SIZE = 256


@dataclass
class ModelOutput:
    """The output of one model for some lines.

    Each task has margins (our text categorizers) or scores by label (spaCy's). Without a pipe it has neither.
    """

    margins: dict[Task, LabelledMargins] = field(default_factory=dict)
    scores: dict[Task, list[dict[str, float]]] = field(default_factory=dict)
    spans: list[tuple[Span, ...]] | None = None
    seconds: float = 0.0


def predict(job: PredictJob, *, cache: WorkerCache | None = None) -> PredictReport:
    """The prediction for each line of `job.texts`, by the model of its shadow."""
    cache = cache or WorkerCache()
    lines = lines_of(job.texts, cache)
    single = len(job.models) == 1
    parts: list[tuple[list[int], ModelOutput]] = []
    for shadow, model in enumerate(job.models):
        positions = [at for at, line in enumerate(lines) if single or line.shadow == shadow]
        texts = [lines[at].text for at in positions]
        if texts:
            parts.append((positions, cache.outputs(model, texts, partial(_run, model, texts, cache))))
    rights = {task: _probabilities(job, task, lines, parts) for task in CATEGORY_TASKS}
    (intent, sure_intent), (sentiment, sure_sentiment) = (rights[task] for task in CATEGORY_TASKS)
    predicted: list[Predicted | None] = [None] * len(lines)
    for positions, output in parts:
        labels = {task: _likeliest(output, task, len(positions)) for task in CATEGORY_TASKS}
        for row, at in enumerate(positions):
            spans = output.spans[row] if output.spans is not None else None
            predicted[at] = Predicted(
                row=(labels["intent"][row], labels["sentiment"][row], spans),
                right=(intent[at], sentiment[at]),
                sure=(sure_intent[at], sure_sentiment[at]),
            )
    seconds = sum(output.seconds for _, output in parts)
    return PredictReport(
        predicted=tuple(one or Predicted(row=(None, None, None)) for one in predicted),
        ms_per_text=1000.0 * seconds / len(lines) if lines else 0.0,
    )


def _required(line: Line[CorpusLine], path: Path) -> CorpusLine:
    """The value of a line. Raises TrainingError without one: the predictions follow the order of lines."""
    if line.value is None:
        raise TrainingError(f"{path} line {line.line} cannot be read: {line.error}")
    return line.value


def lines_of(path: Path, cache: WorkerCache) -> list[CorpusLine]:
    """The lines of a file of texts. Raises TrainingError."""
    return cache.lines(path, lambda: [_required(line, path) for line in read_examples(path)])


def texts_of_shadow(path: Path, shadow: int, cache: WorkerCache) -> list[str]:
    """The texts of a file that the shadow predicts. Raises TrainingError."""
    return [line.text for line in lines_of(path, cache) if line.shadow == shadow]


def _run(spec: PipelineSpec, texts: Sequence[str], cache: WorkerCache) -> ModelOutput:
    """The output of the model in a folder."""
    return output_of(cache.saved(spec), texts)


def output_of(pipeline: TrainablePipeline, texts: Sequence[str]) -> ModelOutput:
    """The output of a model. Our text categorizers compute margins instead of scores."""
    pipes = {task: pipeline.pipe(task) for task in CATEGORY_TASKS if task in pipeline.tasks}
    ours = {task: pipe for task, pipe in pipes.items() if isinstance(pipe, BaseTextCategorizer)}
    output = ModelOutput()
    started = perf_counter()
    with pipeline.nlp.select_pipes(disable=[pipe.name for pipe in ours.values()]):
        made = (make_doc(pipeline.nlp, text) for text in texts)
        docs = list(pipeline.nlp.pipe(made, batch_size=BATCH_SIZE))
    for task, pipe in pipes.items():
        if task in ours:
            batches = [pipe.margins(docs[at : at + BATCH_SIZE]) for at in range(0, len(docs), BATCH_SIZE)]
            output.margins[task] = pool_margins(batches)
        else:
            output.scores[task] = [scores_of(doc, pipe.labels) for doc in docs]
    if "entities" in pipeline.tasks:
        output.spans = [spans_of(doc) for doc in docs]
    output.seconds = perf_counter() - started
    return output


def _probabilities(
    job: PredictJob,
    task: Task,
    lines: Sequence[CorpusLine],
    parts: Sequence[tuple[list[int], ModelOutput]],
) -> tuple[list[float | None], list[float | None]]:
    """Those of the labels and of the likeliest labels of all lines, at one scale for all models."""
    result: list[float | None] = [None] * len(lines)
    sure: list[float | None] = [None] * len(lines)
    for positions, output in parts:
        for row, at in enumerate(positions if task in output.scores else ()):
            scores = output.scores[task][row]
            result[at] = share_of(scores, getattr(lines[at], task))
            sure[at] = share_of(scores, likeliest(scores))
    ours = [(positions, output.margins[task]) for positions, output in parts if task in output.margins]
    if not ours:
        return result, sure
    pool, order = pool_margins([margins for _, margins in ours]), [at for part, _ in ours for at in part]
    labels = [getattr(lines[at], task) for at in order]
    values, highest = scaled(pool, labels, fitted=[at < job.gold for at in order])
    for at, value, best in zip(order, values, highest, strict=True):
        result[at], sure[at] = value, best
    if job.calibration is not None:
        used = np.array(
            [at < job.gold and label is not None for at, label in zip(order, labels, strict=True)], dtype=bool
        )
        gold = [label for label, is_used in zip(labels, used, strict=True) if is_used and label is not None]
        if gold:
            write_margins(job.calibration, task, LabelledMargins(pool.labels, pool.values.rows(used)), gold)
    return result, sure


def _likeliest(output: ModelOutput, task: Task, count: int) -> list[str | None]:
    """The predicted label of each text."""
    if task in output.scores:
        return [likeliest(scores) for scores in output.scores[task]]
    if task not in output.margins or not output.margins[task].labels:
        return [None] * count
    margins = output.margins[task]
    return [margins.labels[column] for column in margins.values.margins.argmax(axis=1)]


def answer_of(doc: Doc, labels: Mapping[Task, Sequence[str]]) -> PredictionRow:
    """Intent, sentiment and entities of a processed document. `labels` has those of each task with a pipe."""
    intent, sentiment = (likeliest(scores_of(doc, labels.get(task, ()))) for task in CATEGORY_TASKS)
    return intent, sentiment, spans_of(doc) if "entities" in labels else None


def scores_of(doc: Doc, labels: Sequence[str]) -> dict[str, float]:
    """The scores of these labels in a document; 0 for a missing one."""
    return {label: doc.cats.get(label, 0.0) for label in labels}


def likeliest(scores: Mapping[str, float]) -> str | None:
    """The label with the highest score, the first of equal ones; None without labels."""
    return max(scores, key=scores.__getitem__) if scores else None


def spans_of(doc: Doc) -> tuple[Span, ...]:
    """The entities of a document."""
    return tuple((span.start_char, span.end_char, span.label_) for span in doc.ents)
