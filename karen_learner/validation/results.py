"""Results of one model, task by task and text by text: the basis of scores, intervals and paired tests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karen_learner.metrics import Interval, Span, compare_spans, f1
from karen_learner.records import CATEGORY_TASKS, Example, LabelScore, Task

Matrix = NDArray[np.float64]

Probabilities = tuple[float | None, float | None]

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
    the gold label of a task, `confidence` that of the predicted one, if known.
    """

    intent: str | None = None
    sentiment: str | None = None
    entities: tuple[Span, ...] | None = None
    of_gold: Mapping[Task, float] = field(default_factory=dict)
    confidence: Mapping[Task, float] = field(default_factory=dict)

    @classmethod
    def from_row(
        cls, row: Sequence[Any], of_gold: Probabilities = (None, None), sure: Probabilities = (None, None)
    ) -> Prediction:
        """The prediction of a `PredictionRow` and the `RightRow`s of the worker."""
        intent, sentiment, spans = row
        entities = None if spans is None else tuple((int(s), int(e), str(label)) for s, e, label in spans)
        known, confidence = (
            {task: value for task, value in zip(CATEGORY_TASKS, each, strict=True) if value is not None}
            for each in (of_gold, sure)
        )
        return cls(intent, sentiment, entities, known, confidence)

    def spans(self, task: Task) -> Sequence[Span]:
        """The predicted labels as spans."""
        return (self.entities or ()) if task == "entities" else _whole_text(getattr(self, task))


@dataclass(frozen=True)
class TaskResult:
    """Results of a model on the texts of one task.

    `positions` (texts,) in the scored texts. `values` of intent and sentiment: (texts,) of 0 and 1. `values`
    of entities: (texts, 3), counts of hits, spurious and missed spans. `log_likelihoods` (texts,) of the gold
    labels; NaN if unknown. `answers` (texts,) are the predicted intents or sentiments, `confidences` (texts,)
    their probabilities; NaN if unknown.
    """

    task: Task
    positions: NDArray[np.int64]
    values: Matrix
    log_likelihoods: Matrix | None = None
    answers: tuple[str | None, ...] = ()
    confidences: Matrix | None = None

    @property
    def texts(self) -> int:
        return len(self.positions)

    @property
    def score(self) -> float:
        """The accuracy, or for entities the F1 of exact spans with labels."""
        if self.task != "entities":
            return float(self.values.mean())
        return f1(*self.values.sum(axis=0))

    def select(self, mask: NDArray[np.bool_]) -> TaskResult:
        """The result on the texts of a mask (texts,), with the same positions."""
        return self.at(np.flatnonzero(mask))

    def at(self, indices: NDArray[np.intp]) -> TaskResult:
        """The result on the texts at these indices, in their order."""
        return TaskResult(
            self.task,
            self.positions[indices],
            self.values[indices],
            None if self.log_likelihoods is None else self.log_likelihoods[indices],
            tuple(self.answers[index] for index in indices) if self.answers else (),
            None if self.confidences is None else self.confidences[indices],
        )

    def influence(self) -> Matrix:
        """The influence of each text on the score, times the number of texts: (texts,), mean zero.

        For the F1 it is the linear term of its expansion (the delta method). The standard error of a score is
        the standard deviation of the influence, over the root of the texts.
        """
        if self.task != "entities":
            return np.asarray(self.values - self.values.mean(), dtype=np.float64)
        hits, spurious, missed = self.values.T
        size = 2.0 * hits + spurious + missed
        mean_size = size.mean()
        if mean_size == 0.0:
            return np.zeros(self.texts)
        return np.asarray((2.0 * hits - self.score * size) / mean_size, dtype=np.float64)


def task_result(
    task: Task, examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[TaskResult, dict[str, LabelScore]]:
    """The result of a task, and the score of each label that is gold or predicted."""
    positions: list[int] = []
    counts, of_gold = [], []
    by_label: tuple[Counter[str], ...] = (Counter(), Counter(), Counter())
    for position, (example, prediction) in enumerate(zip(examples, predictions, strict=True)):
        if getattr(example, task) is None:
            continue
        parts = compare_spans(gold_spans(example, task), judged_spans(prediction.spans(task), example, task))
        positions.append(position)
        counts.append([part.total() for part in parts])
        of_gold.append(prediction.of_gold.get(task, math.nan))
        for total, part in zip(by_label, parts, strict=True):
            for (_, _, label), count in part.items():
                total[label] += count
    where = np.array(positions, dtype=np.int64)
    values = np.array(counts, dtype=np.float64).reshape(len(positions), 3)
    if task == "entities":
        result = TaskResult(task, where, values)
    else:
        likelihoods = np.log(np.clip(np.array(of_gold, dtype=np.float64), MIN_PROBABILITY, 1.0))
        answers = tuple(getattr(predictions[position], task) for position in positions)
        sure = [predictions[position].confidence.get(task, math.nan) for position in positions]
        confidences = np.array(sure, dtype=np.float64)
        result = TaskResult(task, where, values[:, 0].copy(), likelihoods, answers, confidences)
    labels = sorted(set().union(*by_label))
    return result, {label: _label_score(*(part[label] for part in by_label)) for label in labels}


def _label_score(hits: int, spurious: int, missed: int) -> LabelScore:
    """Precision and recall; 0 if nothing is predicted or nothing is gold."""
    predicted, gold = hits + spurious, hits + missed
    return LabelScore(
        precision=hits / predicted if predicted else 0.0,
        recall=hits / gold if gold else 0.0,
        f1=f1(hits, spurious, missed),
        support=gold,
    )


def gold_spans(example: Example, task: Task) -> list[Span]:
    """The gold labels as spans. A misaligned entity is never predicted and counts as missed."""
    if task != "entities":
        return _whole_text(getattr(example, task))
    return [(span.start, span.end, span.label) for span in example.entities or ()]


def judged_spans(spans: Sequence[Span], example: Example, task: Task) -> Sequence[Span]:
    """The predicted spans that gold can judge: those outside of the unannotated ranges."""
    if task != "entities" or not example.unannotated:
        return spans
    return [
        span
        for span in spans
        if all(span[1] <= start or span[0] >= end for start, end in example.unannotated)
    ]


def _whole_text(label: str | None) -> list[Span]:
    """An intent or a sentiment as the only span of a text."""
    return [] if label is None else [(0, 1, label)]


def mean_score(results: Iterable[TaskResult]) -> float | None:
    """The mean score of tasks, weighted by their texts; None without texts."""
    known = [result for result in results if result.texts]
    texts = sum(result.texts for result in known)
    return sum(result.score * result.texts for result in known) / texts if texts else None


def bootstrap(
    results: Sequence[TaskResult], *, texts: int, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """95 % percentile interval (Efron, 1979) of the mean score, weighted by the texts of each task.

    Resamples texts with all their tasks; `texts` is the number of all scored texts. Resamples without texts
    of these tasks are left out.
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
