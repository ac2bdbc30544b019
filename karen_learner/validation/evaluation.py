"""Evaluation of answers on labelled texts: reliability, scope, unknown labels, differences. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from karen_learner.components.textcat.calibration import expected_calibration_error
from karen_learner.metrics import Z_95, Interval, paired_interval
from karen_learner.records import CATEGORY_TASKS, TASKS, Analysis, Example, Flip, LabelledText, Task
from karen_learner.records.cycles import FLIP_KINDS
from karen_learner.records.evaluations import Reliability, ScopeRates, TaskDifference
from karen_learner.validation.comparison import compare
from karen_learner.validation.evidence import labels_of
from karen_learner.validation.results import Prediction, TaskResult
from karen_learner.validation.scoring import ScoredTexts

IntervalOf = Callable[[TaskResult, TaskResult], Interval | None]
"""The 95 % interval of the difference of two results, the first one before."""


@dataclass(frozen=True)
class Answer:
    """The answer of a version to a text. `confidences` are those of intent and sentiment, if known."""

    prediction: Prediction
    confidences: Mapping[Task, float] = field(default_factory=dict)
    out_of_scope: bool = False
    degraded: bool = False

    @classmethod
    def from_analysis(cls, analysis: Analysis) -> Answer:
        """The answer in an analysis."""
        spans = tuple((entity.start, entity.end, entity.label) for entity in analysis.entities)
        return cls(
            Prediction(analysis.intent, analysis.sentiment, spans),
            {"intent": analysis.intent_confidence, "sentiment": analysis.sentiment_confidence},
            analysis.out_of_scope,
            analysis.degraded,
        )


def reliability(examples: Sequence[Example], answers: Sequence[Answer]) -> dict[Task, Reliability]:
    """Confidence, accuracy and expected calibration error of intent and sentiment.

    It covers the texts with a gold label and an answer with a confidence. Tasks without such texts are left
    out.
    """
    found: dict[Task, Reliability] = {}
    for task in CATEGORY_TASKS:
        rows = [
            (answer.confidences[task], getattr(answer.prediction, task) == getattr(example, task))
            for example, answer in zip(examples, answers, strict=True)
            if getattr(example, task) is not None
            and getattr(answer.prediction, task) is not None
            and task in answer.confidences
        ]
        if rows:
            found[task] = _reliability(*zip(*rows, strict=True))
    return found


def _reliability(confidences: Sequence[float], right: Sequence[bool]) -> Reliability:
    values, hits = np.array(confidences, dtype=np.float64), np.array(right, dtype=bool)
    return Reliability(
        texts=len(values),
        confidence=float(values.mean()),
        accuracy=float(hits.mean()),
        calibration_error=min(1.0, expected_calibration_error(values, hits)),
    )


def scope_rates(
    examples: Sequence[Example], answers: Sequence[Answer], intents: Collection[str]
) -> ScopeRates | None:
    """Shares of texts out of scope, for a model with these intents; None without texts."""
    if not answers:
        return None
    both = list(zip(examples, answers, strict=True))
    known = [answer.out_of_scope for example, answer in both if example.intent in intents]
    unknown = [answer.out_of_scope for example, answer in both if example.intent not in {None, *intents}]
    return ScopeRates(
        texts=len(both),
        out_of_scope=sum(answer.out_of_scope for answer in answers) / len(both),
        known=sum(known) / len(known) if known else None,
        unknown=sum(unknown) / len(unknown) if unknown else None,
    )


def unknown_labels(
    texts: Sequence[LabelledText], labels: Mapping[Task, Collection[str]]
) -> dict[Task, dict[str, int]]:
    """Labels of the texts that a model with these `labels` lacks, and their numbers of texts."""
    found: dict[Task, dict[str, int]] = {}
    for task in TASKS:
        counted = Counter(label for one in texts for label in labels_of(one, task))
        lacking = {label: counted[label] for label in sorted(counted) if label not in labels.get(task, ())}
        if lacking:
            found[task] = lacking
    return found


def task_differences(
    before: ScoredTexts, after: ScoredTexts, found: Sequence[Flip], *, interval_of: IntervalOf
) -> tuple[TaskDifference, ...]:
    """The difference of each task, with counts of the flips. Both must be scored on the same texts."""
    counts = Counter((flip.task, flip.kind) for flip in found)
    return tuple(
        TaskDifference(
            task=task,
            texts=new.texts,
            before=old.score,
            after=new.score,
            difference=new.score - old.score,
            interval=interval_of(old, new),
            **{kind: counts[task, kind] for kind in FLIP_KINDS},
        )
        for task, new in after.by_task.items()
        for old in [before.by_task[task]]
    )


def independent_interval(before: TaskResult, after: TaskResult) -> Interval | None:
    """95 % interval of the difference on independent texts; None for too few texts.

    The adjusted Wald interval for accuracies, the delta method for the F1.
    """
    if after.task != "entities":
        gained = after.values - before.values
        return paired_interval(int((gained > 0).sum()), int((gained < 0).sum()), after.texts)
    if after.texts < 2:
        return None
    influence = after.influence() - before.influence()
    half = Z_95 * float(influence.std(ddof=1)) / math.sqrt(after.texts)
    difference = after.score - before.score
    return (max(-1.0, difference - half), min(1.0, difference + half))


def clustered_interval(examples: Sequence[Example], people: Mapping[str, Sequence[str]]) -> IntervalOf:
    """Intervals on judged examples, clustered by near-duplicates and by the `people` of each `key`.

    They are those of the gates.
    """
    owners = [people.get(example.key, ()) for example in examples]
    return lambda before, after: compare(after.task, after, before, examples, owners).interval
