"""Results of one model, task by task and text by text: the basis of scores, intervals and paired tests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karen_learner.metrics import Interval, Span, compare_spans, f1
from karen_learner.records import CATEGORY_TASKS, Example, LabelScore, Task

Matrix = NDArray[np.float64]

MIN_PROBABILITY = 0.001
"""Lower bound in log-likelihoods, so that no single text decides a comparison."""
RESAMPLES = 1000
SEED = 0
_PERCENTILES = (2.5, 97.5)
_CHUNK = 100


@dataclass(frozen=True)
class Prediction:
    """Intent, sentiment and entities that a model predicts for a text.

    None: the model has no pipe for the task, which scores as nothing found. `of_gold` is the probability of
    the gold label of a task, if known.
    """

    intent: str | None = None
    sentiment: str | None = None
    entities: tuple[Span, ...] | None = None
    of_gold: Mapping[Task, float] = field(default_factory=dict)

    @classmethod
    def from_row(
        cls, row: Sequence[Any], of_gold: tuple[float | None, float | None] = (None, None)
    ) -> Prediction:
        """The prediction of a `PredictionRow` and a `RightRow` of the worker."""
        intent, sentiment, spans = row
        entities = None if spans is None else tuple((int(s), int(e), str(label)) for s, e, label in spans)
        known = {
            task: value for task, value in zip(CATEGORY_TASKS, of_gold, strict=True) if value is not None
        }
        return cls(intent, sentiment, entities, known)


@dataclass(frozen=True)
class TaskResult:
    """Results of a model on the texts of one task.

    `positions` (texts,) in the holdout. `values` of intent and sentiment: (texts,) of 0 and 1. `values` of
    entities: (texts, 3), counts of hits, spurious and missed spans. `log_likelihoods` (texts,) of the gold
    labels; NaN if unknown.
    """

    task: Task
    positions: NDArray[np.int64]
    values: Matrix
    log_likelihoods: Matrix | None = None

    @property
    def texts(self) -> int:
        return len(self.positions)

    @property
    def score(self) -> float:
        """The accuracy, or for entities the F1 of exact spans with labels."""
        if self.task != "entities":
            return float(self.values.mean())
        return f1(*self.values.sum(axis=0))

    def influence(self) -> Matrix:
        """The influence of each text on the score, times the number of texts: (texts,), mean zero.

        For the F1 it is the linear term of its expansion (the delta method). The standard error of a score
        is the standard deviation of the influence over the root of the number of texts.
        """
        if self.task != "entities":
            return np.asarray(self.values - self.values.mean(), dtype=np.float64)
        hits, spurious, missed = self.values.T
        size = 2.0 * hits + spurious + missed
        mean_size = size.mean()
        if mean_size == 0.0:
            return np.zeros(self.texts)
        return np.asarray((2.0 * hits - self.score * size) / mean_size, dtype=np.float64)


@dataclass
class LabelCounts:
    """Counts of one label: hits, spurious (predicted, not gold), missed (gold, not predicted)."""

    hits: int = 0
    spurious: int = 0
    missed: int = 0

    def score(self) -> LabelScore:
        """Precision and recall; 0 if nothing is predicted or nothing is gold."""
        predicted, gold = self.hits + self.spurious, self.hits + self.missed
        return LabelScore(
            precision=self.hits / predicted if predicted else 0.0,
            recall=self.hits / gold if gold else 0.0,
            f1=f1(self.hits, self.spurious, self.missed),
            support=gold,
        )


PerLabel = dict[str, LabelCounts]


def task_result(
    task: Task, examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[TaskResult, PerLabel]:
    """The result of a task, and the counts of each label that is gold or predicted."""
    if task == "entities":
        return _entity_result(examples, predictions)
    return _category_result(task, examples, predictions)


def _category_result(
    task: Task, examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[TaskResult, PerLabel]:
    labels: PerLabel = {}
    positions, hits, of_gold = [], [], []
    for position, (example, prediction) in enumerate(zip(examples, predictions, strict=True)):
        gold, predicted = getattr(example, task), getattr(prediction, task)
        if gold is None:
            continue
        positions.append(position)
        hits.append(gold == predicted)
        of_gold.append(prediction.of_gold.get(task, math.nan))
        if gold == predicted:
            labels.setdefault(gold, LabelCounts()).hits += 1
            continue
        labels.setdefault(gold, LabelCounts()).missed += 1
        if predicted is not None:
            labels.setdefault(predicted, LabelCounts()).spurious += 1
    log_likelihoods = np.log(np.clip(np.array(of_gold, dtype=np.float64), MIN_PROBABILITY, 1.0))
    values = np.array(hits, dtype=np.float64)
    return TaskResult(task, np.array(positions, dtype=np.int64), values, log_likelihoods), labels


def _entity_result(
    examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[TaskResult, PerLabel]:
    labels: PerLabel = {}
    positions, counts = [], []
    for position, (example, prediction) in enumerate(zip(examples, predictions, strict=True)):
        if example.entities is None:
            continue
        parts = compare_spans(gold_spans(example), prediction.entities or ())
        positions.append(position)
        counts.append([part.total() for part in parts])
        for name, part in zip(("hits", "spurious", "missed"), parts, strict=True):
            for (_, _, label), count in part.items():
                known = labels.setdefault(label, LabelCounts())
                setattr(known, name, getattr(known, name) + count)
    values = np.array(counts, dtype=np.float64).reshape(len(positions), 3)
    return TaskResult("entities", np.array(positions, dtype=np.int64), values), labels


def gold_spans(example: Example) -> list[Span]:
    """The gold entities of a text. A misaligned one is never predicted and counts as missed."""
    return [(span.start, span.end, span.label) for span in example.entities or ()]


def mean_score(results: Iterable[TaskResult]) -> float | None:
    """The mean score of tasks, weighted by their texts; None without texts."""
    known = [result for result in results if result.texts]
    texts = sum(result.texts for result in known)
    return sum(result.score * result.texts for result in known) / texts if texts else None


def bootstrap(
    results: Sequence[TaskResult], *, texts: int, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """95 % percentile interval (Efron, 1979) of the mean score, weighted by the texts of each task.

    Resamples texts with all their tasks; `texts` is the size of the holdout. Resamples without texts of these
    tasks are left out.
    """
    rng = np.random.default_rng(seed)
    scores: list[float] = []
    for start in range(0, resamples, _CHUNK):
        draws = rng.multinomial(texts, np.full(texts, 1.0 / texts), size=min(_CHUNK, resamples - start))
        scores.extend(_resampled_scores(results, draws.astype(np.float64)))
    if not scores:
        return (0.0, 1.0)
    low, high = np.percentile(scores, _PERCENTILES)
    return (float(low), float(high))


def _resampled_scores(results: Iterable[TaskResult], draws: Matrix) -> Matrix:
    """The mean score of each resample. `draws` (resamples, texts) counts each text in each resample."""
    sums, counts = np.zeros(len(draws)), np.zeros(len(draws))
    for result in results:
        drawn = draws[:, result.positions]
        count = drawn.sum(axis=1)
        counts += count
        sums += _summed_scores(result, drawn, count)
    kept = counts > 0
    return np.asarray(sums[kept] / counts[kept], dtype=np.float64)


def _summed_scores(result: TaskResult, drawn: Matrix, count: Matrix) -> Matrix:
    """The score of each resample times its number of texts."""
    sums = drawn @ result.values
    if result.task != "entities":
        return np.asarray(sums, dtype=np.float64)
    total = 2.0 * sums[:, 0] + sums[:, 1] + sums[:, 2]
    scores = np.divide(2.0 * sums[:, 0], total, out=np.ones(len(drawn)), where=total > 0)
    return np.asarray(scores * count, dtype=np.float64)
