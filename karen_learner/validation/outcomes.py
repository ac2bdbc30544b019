"""Right or wrong, text by text: what accuracies, intervals and paired comparisons are computed from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karen_learner.records import Example, LabelScore, Task
from karen_learner.validation.predictions import Prediction, Triple

Matrix = NDArray[np.float64]

LEAST_PROBABILITY = 0.001
"""What is less counts as this, so that no single text decides by how sure a model is of the wrong label."""


@dataclass(frozen=True)
class TaskOutcome:
    """How a model did on the texts of one task.

    `rows` (texts,) are their places in the holdout. `values` is (texts,) of 0 and 1 for intent and
    sentiment; for entities (texts, 3) with the counts of true positives, false positives and misses.
    `log_likelihoods` (texts,): the logarithm of what the model gave to the right label; NaN where that is
    not known.
    """

    task: Task
    rows: NDArray[np.int64]
    values: Matrix
    log_likelihoods: Matrix | None = None

    @property
    def texts(self) -> int:
        return len(self.rows)

    @property
    def score(self) -> float:
        """The accuracy, or for entities the F1 of exact spans with labels."""
        if self.task != "entities":
            return float(self.values.mean())
        hits, spurious, missed = self.values.sum(axis=0)
        return f1(hits, spurious, missed)

    def influence(self) -> Matrix:
        """By how much each text moves the score, times the number of texts: (texts,), mean zero.

        For the F1 it is the linear term of its expansion (the delta method), so that the standard error
        of a score is the standard deviation of this over the root of the number of texts.
        """
        if self.task != "entities":
            return np.asarray(self.values - self.values.mean(), dtype=np.float64)
        hits, spurious, missed = self.values.T
        weight = 2.0 * hits + spurious + missed
        mean_weight = weight.mean()
        if mean_weight == 0.0:
            return np.zeros(self.texts)
        return np.asarray((2.0 * hits - self.score * weight) / mean_weight, dtype=np.float64)


def f1(hits: float, spurious: float, missed: float) -> float:
    """F1 = 2 TP / (2 TP + FP + FN). Where there was nothing to find and nothing was found: 1."""
    total = 2.0 * hits + spurious + missed
    return 1.0 if total == 0.0 else float(2.0 * hits / total)


@dataclass
class Tally:
    """Cases of one label: hits, spurious (predicted, not gold), missed (gold, not predicted)."""

    hits: int = 0
    spurious: int = 0
    missed: int = 0

    def label_score(self) -> LabelScore:
        """Precision and recall are 0 where nothing was predicted or there was nothing to find."""
        predicted, gold = self.hits + self.spurious, self.hits + self.missed
        return LabelScore(
            precision=self.hits / predicted if predicted else 0.0,
            recall=self.hits / gold if gold else 0.0,
            f1=f1(self.hits, self.spurious, self.missed),
            support=gold,
        )


def category_outcome(
    task: Task, examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[TaskOutcome, Mapping[str, Tally]]:
    """The outcome of intent or sentiment, and the cases of each label that is gold or was predicted."""
    tallies: dict[str, Tally] = {}
    rows, hits, given = [], [], []
    for row, (example, prediction) in enumerate(zip(examples, predictions, strict=True)):
        gold, said = getattr(example, task), getattr(prediction, task)
        if gold is None:
            continue
        rows.append(row)
        hits.append(gold == said)
        given.append(prediction.of_gold.get(task))
        if gold == said:
            tallies.setdefault(gold, Tally()).hits += 1
            continue
        tallies.setdefault(gold, Tally()).missed += 1
        if said is not None:
            tallies.setdefault(said, Tally()).spurious += 1
    outcome = TaskOutcome(
        task, np.array(rows, dtype=np.int64), np.array(hits, dtype=np.float64), _logarithms(given)
    )
    return outcome, tallies


def _logarithms(probabilities: Sequence[float | None]) -> Matrix:
    known = np.array([math.nan if value is None else value for value in probabilities], dtype=np.float64)
    return np.asarray(np.log(np.clip(known, LEAST_PROBABILITY, 1.0)))


def entity_outcome(
    examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[TaskOutcome, Mapping[str, Tally]]:
    """The outcome of the entities: a span counts only with its exact bounds and its label."""
    tallies: dict[str, Tally] = {}
    rows, counts = [], []
    for row, (example, prediction) in enumerate(zip(examples, predictions, strict=True)):
        if example.entities is None:
            continue
        gold, said = gold_spans(example), Counter(prediction.entities or ())
        hits, spurious, missed = gold & said, said - gold, gold - said
        rows.append(row)
        counts.append((hits.total(), spurious.total(), missed.total()))
        for (_, _, label), count in hits.items():
            tallies.setdefault(label, Tally()).hits += count
        for (_, _, label), count in spurious.items():
            tallies.setdefault(label, Tally()).spurious += count
        for (_, _, label), count in missed.items():
            tallies.setdefault(label, Tally()).missed += count
    values = np.array(counts, dtype=np.float64).reshape(len(rows), 3)
    return TaskOutcome("entities", np.array(rows, dtype=np.int64), values), tallies


def gold_spans(example: Example) -> Counter[Triple]:
    """The gold entities of a text. One that no tokenizer can produce is never matched: it is missed."""
    return Counter((span.start, span.end, span.label) for span in example.entities or ())
