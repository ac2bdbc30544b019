"""Scores against scikit-learn, and cases that scikit-learn does not cover."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from karen_learner.errors import InvalidInput
from karen_learner.records import Example, Task, ValidationResult
from karen_learner.settings import Settings
from karen_learner.validation import Prediction, ScoredTexts, score
from tests.validation.holdouts import answers, gold, holdout

Scored = Callable[..., ScoredTexts]

EXAMPLES = holdout(120)
PREDICTIONS = answers(EXAMPLES, right=0.7, seed=1)


def pairs(task: Task) -> tuple[list[str], list[str]]:
    both = zip(EXAMPLES, PREDICTIONS, strict=True)
    known = [(getattr(e, task), getattr(p, task)) for e, p in both if getattr(e, task) is not None]
    return [gold for gold, _ in known], [predicted for _, predicted in known]


def span_indicators() -> tuple[list[str], list[str]]:
    """Every span that is gold or predicted, as scikit-learn's labels, with "O" for absent."""
    gold_labels, predicted_labels = [], []
    for example, prediction in zip(EXAMPLES, PREDICTIONS, strict=True):
        if example.entities is None:
            continue
        gold_spans = {(s.start, s.end, s.label) for s in example.entities}
        for span in sorted(gold_spans | set(prediction.entities or ())):
            gold_labels.append(span[2] if span in gold_spans else "O")
            predicted_labels.append(span[2] if span in (prediction.entities or ()) else "O")
    return gold_labels, predicted_labels


def macro(gold_labels: list[str], predicted: list[str], **options: Any) -> tuple[float, float, float]:
    parts = precision_recall_fscore_support(
        gold_labels, predicted, average="macro", zero_division=0, **options
    )
    return parts[:3]


@pytest.mark.parametrize("task", ["intent", "sentiment"])
def test_categories_are_scored_as_by_scikit_learn(task: Task, scored: Scored) -> None:
    result = scored(EXAMPLES, PREDICTIONS, tasks=[task]).result

    assert result.task_score(task) == pytest.approx(accuracy_score(*pairs(task)), abs=1e-15)
    assert (result.precision, result.recall, result.f1_score) == pytest.approx(macro(*pairs(task)), abs=1e-12)


@pytest.mark.parametrize("task", ["intent", "sentiment"])
def test_labels_are_scored_as_by_scikit_learn(task: Task, scored: Scored) -> None:
    per_label = scored(EXAMPLES, PREDICTIONS).result.per_label[task]

    expected = precision_recall_fscore_support(*pairs(task), labels=sorted(per_label), zero_division=0)
    ours = [(s.precision, s.recall, s.f1, s.support) for s in per_label.values()]
    assert ours == [pytest.approx(row) for row in zip(*expected, strict=True)]


def test_entities_are_scored_by_the_micro_f1_of_exact_spans(scored: Scored) -> None:
    result = scored(EXAMPLES, PREDICTIONS, tasks=["entities"]).result
    labels = ["DATE", "PLAN"]

    micro = precision_recall_fscore_support(*span_indicators(), labels=labels, average="micro")[2]
    assert result.entity_accuracy == pytest.approx(micro, abs=1e-12)
    expected = macro(*span_indicators(), labels=labels)
    assert (result.precision, result.recall, result.f1_score) == pytest.approx(expected, abs=1e-12)


def test_scores_of_all_tasks_are_weighted_by_their_texts(scored: Scored) -> None:
    result = scored(EXAMPLES, PREDICTIONS).result
    counts = {"intent": 120, "sentiment": len(pairs("sentiment")[0])}
    counts["entities"] = sum(example.entities is not None for example in EXAMPLES)

    assert result.counts == counts
    total = sum(result.task_score(task) * counts[task] for task in counts)  # type: ignore[arg-type, operator]
    assert result.accuracy == pytest.approx(total / sum(counts.values()), abs=1e-12)
    alone = {task: scored(EXAMPLES, PREDICTIONS, tasks=[task]).result.f1_score or 0.0 for task in counts}
    weighted = sum(alone[task] * counts[task] for task in counts) / sum(counts.values())
    assert result.f1_score == pytest.approx(weighted, abs=1e-12)


def test_a_task_without_texts_has_no_score(scored: Scored) -> None:
    result = scored([gold(intent="billing")], [Prediction("billing", "positive", ())]).result

    assert (result.sentiment_accuracy, result.entity_accuracy) == (None, None)
    assert (result.accuracy, result.f1_score) == (1.0, 1.0)
    assert result.counts == {"intent": 1, "sentiment": 0, "entities": 0}
    assert set(result.intervals) == {"intent_accuracy", "accuracy"}
    assert result.passed_threshold


def test_without_texts_no_threshold_passes(scored: Scored) -> None:
    nothing = scored([], [])

    assert nothing.result == ValidationResult(
        accuracy=None,
        precision=None,
        recall=None,
        f1_score=None,
        intent_accuracy=None,
        sentiment_accuracy=None,
        entity_accuracy=None,
        passed_threshold=False,
        counts={"intent": 0, "sentiment": 0, "entities": 0},
    )
    assert nothing.texts == 0


def test_a_model_without_the_pipe_scores_zero(scored: Scored) -> None:
    example = gold("alpha", intent="billing", sentiment="positive", entities=[[0, 5, "PLAN"]])

    result = scored([example], [Prediction()]).result
    assert (result.intent_accuracy, result.sentiment_accuracy, result.entity_accuracy) == (0.0, 0.0, 0.0)
    assert set(result.per_label["intent"]) == {"billing"}


def test_no_gold_and_no_predicted_entity_is_right(scored: Scored) -> None:
    result = scored([gold(entities=())], [Prediction(entities=())]).result

    assert (result.entity_accuracy, result.precision) == (1.0, 1.0)


@pytest.mark.parametrize(
    "predicted",
    [
        pytest.param(((0, 7, "PLAN"),), id="other bounds"),
        pytest.param(((0, 5, "DATE"),), id="other label"),
        pytest.param((), id="missed, as a misaligned gold span always is"),
    ],
)
def test_only_the_exact_span_with_its_label_counts(
    predicted: tuple[tuple[int, int, str], ...], scored: Scored
) -> None:
    result = scored([gold("alpha gamma", entities=[[0, 5, "PLAN"]])], [Prediction(entities=predicted)]).result

    assert result.entity_accuracy == 0.0
    assert result.per_label["entities"]["PLAN"].recall == 0.0


def test_passed_threshold_ignores_the_champion(settings: Settings) -> None:
    examples = [gold(f"text {at}", intent="billing") for at in range(10)]
    predictions = [Prediction("billing" if at < 8 else "refund") for at in range(10)]

    settings.thresholds.update({"accuracy": 0.8, "intent_accuracy": 0.8})
    assert score(examples, predictions, thresholds=settings.thresholds).result.passed_threshold
    settings.thresholds.update({"intent_accuracy": 0.81})
    assert not score(examples, predictions, thresholds=settings.thresholds).result.passed_threshold


def test_one_prediction_is_needed_for_each_example(scored: Scored) -> None:
    with pytest.raises(InvalidInput, match="1 predictions for 120 examples"):
        scored(EXAMPLES, [Prediction()])


def test_errors_are_part_of_the_result(scored: Scored) -> None:
    examples: list[Example] = [gold("where is my bill", intent="billing")]

    (error,) = scored(examples, [Prediction("refund")]).result.errors
    assert (error.gold, error.predicted, error.count) == ("billing", "refund", 1)
