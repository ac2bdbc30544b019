"""Evaluations of versions on labelled texts, and comparisons of two versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from karen_learner.records.base import Record, Score, Task
from karen_learner.records.cycles import Flip, ValidationResult
from karen_learner.records.reports import SkippedLine

TextSource = Literal["labelled", "judged"]


class Reliability(Record):
    """Confidence and accuracy of a task on `texts` texts.

    `confidence` is the mean confidence. `calibration_error` is the expected calibration error: the mean
    distance of confidence and accuracy over bins of equal width.
    """

    texts: int
    confidence: Score
    accuracy: Score
    calibration_error: Score


class ScopeRates(Record):
    """Shares of texts that the model finds out of scope; None without such texts.

    `known`: texts with an intent of the model (false alarms). `unknown`: texts with another intent.
    """

    texts: int
    out_of_scope: Score
    known: Score | None = None
    unknown: Score | None = None


class Evaluation(Record):
    """Scores of one version on labelled texts.

    The ids in `scores.errors` are line numbers of the file, or positions of the examples; both count from 1.
    `example_texts` has the beginnings of these texts. `unknown_labels` are labels of the texts that the model
    lacks, with their numbers of texts; such texts count as wrong. `scope` is None if the model has no
    out-of-scope threshold. The model failed on `degraded` texts, so that the fallback answered. `skipped`
    lists the first 1,000 unusable lines.
    """

    tenant_id: str
    version: str
    texts: int
    scores: ValidationResult
    reliability: Mapping[Task, Reliability] = Field(default_factory=dict)
    scope: ScopeRates | None = None
    unknown_labels: Mapping[Task, Mapping[str, int]] = Field(default_factory=dict)
    degraded: int = 0
    skipped_count: int = 0
    skipped: tuple[SkippedLine, ...] = ()
    notes: tuple[str, ...] = ()
    example_texts: Mapping[str, str] = Field(default_factory=dict)


class TaskDifference(Record):
    """Scores of two versions on the same `texts` texts of a task.

    `difference` is `after` less `before`, with its 95 % `interval`; None for too few texts. `fixed`,
    `broken` and `changed` count the texts of each kind of `Flip`.
    """

    task: Task
    texts: int
    before: Score
    after: Score
    difference: float
    interval: tuple[float, float] | None
    fixed: int
    broken: int
    changed: int


class VersionComparison(Record):
    """Two versions on the same texts: a labelled file, or the judged texts that both versions recorded.

    `flips` lists the first 1,000 texts of each kind. Ids and `example_texts` are as in `Evaluation`; for
    judged texts the ids are those of examples.
    """

    tenant_id: str
    before: str
    after: str
    source: TextSource
    texts: int
    tasks: tuple[TaskDifference, ...]
    flips: tuple[Flip, ...] = ()
    unknown_labels: Mapping[str, Mapping[Task, Mapping[str, int]]] = Field(default_factory=dict)
    skipped_count: int = 0
    skipped: tuple[SkippedLine, ...] = ()
    notes: tuple[str, ...] = ()
    example_texts: Mapping[str, str] = Field(default_factory=dict)
