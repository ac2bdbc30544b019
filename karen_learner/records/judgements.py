"""Scores of a model, and the verdict on a candidate."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from karen_learner.records.base import Record, Score, Task


class LabelScore(Record):
    """Precision, recall and F1 of one label. `support` is the number of gold cases."""

    precision: Score
    recall: Score
    f1: Score
    support: int


class Confusion(Record):
    """Number of texts with the gold label `gold` and the prediction `predicted`, with some of them."""

    task: Task
    gold: str
    predicted: str
    count: int
    texts: tuple[str, ...] = ()


class ValidationResult(Record):
    """The scores of one model on the tenant's holdout.

    `intent_accuracy` and `sentiment_accuracy` are accuracies, `entity_accuracy` the F1 of exact spans
    with labels; `accuracy` is their mean weighted by the texts of each task; `precision`, `recall` and
    `f1_score` are macro averages over labels, weighted likewise. A task without holdout texts is None.
    `intervals` holds 95 % intervals by score name. `cross_validated` holds cross-validated accuracies, if the
    holdout is small.
    """

    accuracy: Score | None
    precision: Score | None
    recall: Score | None
    f1_score: Score | None
    intent_accuracy: Score | None
    sentiment_accuracy: Score | None
    entity_accuracy: Score | None
    passed_threshold: bool
    counts: Mapping[Task, int] = Field(default_factory=dict)
    per_label: Mapping[Task, Mapping[str, LabelScore]] = Field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = Field(default_factory=dict)
    errors: tuple[Confusion, ...] = ()
    cross_validated: Mapping[Task, Score] | None = None

    def task_score(self, task: Task) -> float | None:
        """The score that the gate compares for a task."""
        scores = {
            "intent": self.intent_accuracy,
            "sentiment": self.sentiment_accuracy,
            "entities": self.entity_accuracy,
        }
        return scores[task]


class GateCheck(Record):
    """One condition of the gate and its result."""

    name: str
    passed: bool
    detail: str


class Verdict(Record):
    """Decision of the gate, with its checks. `harmful`: the candidate is clearly worse."""

    accepted: bool
    harmful: bool
    improved: tuple[Task, ...]
    checks: tuple[GateCheck, ...]

    @property
    def summary(self) -> str:
        failed = [check.detail for check in self.checks if not check.passed]
        return "; ".join(failed) if failed else "; ".join(check.detail for check in self.checks)
