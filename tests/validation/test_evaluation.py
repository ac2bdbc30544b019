"""Reliability, scope, unknown labels, and flips of two versions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from karen_learner.records import Analysis, Entity
from karen_learner.validation import Prediction, ScoredTexts
from karen_learner.validation.comparison import compare
from karen_learner.validation.evaluation import (
    Answer,
    clustered_interval,
    independent_interval,
    reliability,
    scope_rates,
    task_differences,
    unknown_labels,
)
from karen_learner.validation.scoring import first_of_each_kind, flips
from tests.validation.holdouts import answers, gold, holdout

Scored = Callable[..., ScoredTexts]


def test_an_answer_has_the_labels_of_the_analysis() -> None:
    analysis = Analysis(
        intent="billing",
        intent_confidence=0.75,
        sentiment=None,
        sentiment_confidence=0.0,
        entities=(Entity(start=0, end=5, label="PLAN", text="alpha"),),
        out_of_scope=True,
    )
    answer = Answer.from_analysis(analysis)
    assert answer.prediction == Prediction("billing", None, ((0, 5, "PLAN"),))
    assert answer.confidences["intent"] == 0.75
    assert answer.out_of_scope


def test_reliability_by_hand() -> None:
    examples = [gold(f"text {at}", intent="billing") for at in range(4)]
    confidences, intents = [0.9, 0.9, 0.9, 0.5], ["billing", "billing", "refund", "billing"]
    found = reliability(
        [*examples, gold("unlabelled", sentiment="neutral")],
        [
            *(Answer(Prediction(i), {"intent": c}) for i, c in zip(intents, confidences, strict=True)),
            Answer(Prediction("billing"), {"intent": 0.1}),
        ],
    )
    assert found.keys() == {"intent"}
    assert (found["intent"].texts, found["intent"].accuracy) == (4, 0.75)
    assert found["intent"].confidence == pytest.approx(0.8)
    # two bins: |0.9 - 2 / 3| of three texts, |0.5 - 1| of one
    assert found["intent"].calibration_error == pytest.approx((3 * (0.9 - 2 / 3) + 0.5) / 4)


def test_scope_rates_distinguish_known_and_unknown_intents() -> None:
    texts = [gold(f"text {at}", intent=intent) for at, intent in enumerate(["billing"] * 4 + ["joke"] * 2)]
    texts.append(gold("no intent", sentiment="neutral"))
    out = [True, False, False, False, True, False, True]
    found = scope_rates(texts, [Answer(Prediction(), out_of_scope=one) for one in out], ["billing"])
    assert found is not None
    assert (found.texts, found.known, found.unknown) == (7, 0.25, 0.5)
    assert found.out_of_scope == pytest.approx(3 / 7)
    known = scope_rates(texts[:4], [Answer(Prediction())] * 4, ["billing"])
    assert known is not None
    assert known.unknown is None
    assert scope_rates([], [], ["billing"]) is None


def test_unknown_labels_are_counted_by_text() -> None:
    spans = [[0, 5, "PLAN"], [6, 11, "PLAN"]]
    texts = [
        gold("alpha gamma", intent="joke", entities=spans),
        gold("b", intent="billing"),
        gold("c", intent="joke"),
    ]
    found = unknown_labels(texts, {"intent": ("billing",)})
    assert found == {"intent": {"joke": 2}, "entities": {"PLAN": 1}}
    assert unknown_labels(texts, {"intent": ("billing", "joke"), "entities": ("PLAN",)}) == {}


def test_flips_are_fixed_broken_or_changed() -> None:
    examples = [
        *(gold(f"text {at}", intent="billing") for at in range(5)),
        gold("alpha gamma", entities=[[0, 5, "PLAN"]]),
        gold("no intent", sentiment="neutral"),
    ]
    before = [Prediction(i) for i in ("refund", "billing", "refund", "billing", "refund")]
    after = [Prediction(i) for i in ("billing", "refund", "cancel", "billing", "refund")]
    before += [Prediction(entities=((0, 5, "PLAN"),)), Prediction("billing")]
    after += [Prediction(entities=()), Prediction("refund")]
    found = list(flips(examples, before, after))
    ids = [example.example_id for example in examples]
    assert [(flip.kind, flip.task, flip.example_id) for flip in found] == [
        ("fixed", "intent", ids[0]),
        ("broken", "intent", ids[1]),
        ("changed", "intent", ids[2]),
        ("broken", "entities", ids[5]),
    ]
    assert (found[2].gold, found[2].before, found[2].after) == ("billing", "refund", "cancel")
    assert (found[3].before, found[3].after) == ("PLAN 0-5", "(none)")
    assert [flip.kind for flip in first_of_each_kind(found, 1)] == ["fixed", "broken", "changed"]


def test_the_difference_of_versions_agrees_with_scores_and_flips(scored: Scored) -> None:
    examples = holdout(300)
    before, after = (answers(examples, right=right, seed=seed) for right, seed in ((0.7, 1), (0.8, 2)))
    old, new = scored(examples, before), scored(examples, after)
    found = list(flips(examples, before, after))
    for task in task_differences(old, new, found, interval_of=independent_interval):
        assert (task.before, task.after) == (old.by_task[task.task].score, new.by_task[task.task].score)
        assert task.difference == pytest.approx(task.after - task.before)
        assert task.interval is not None
        assert task.interval[0] <= task.difference <= task.interval[1]
        if task.task != "entities":
            assert (task.fixed - task.broken) / task.texts == pytest.approx(task.difference)
        assert task.fixed + task.broken + task.changed == sum(flip.task == task.task for flip in found)


def test_the_interval_of_entities_is_close_to_a_paired_bootstrap(scored: Scored) -> None:
    examples = holdout(400)
    both = [
        scored(examples, answers(examples, right=right, seed=seed)) for right, seed in ((0.8, 1), (0.7, 2))
    ]
    [difference] = [
        task
        for task in task_differences(*both, [], interval_of=independent_interval)
        if task.task == "entities"
    ]
    old, new = (one.by_task["entities"].values for one in both)
    draws = np.random.default_rng(0).multinomial(len(old), np.full(len(old), 1 / len(old)), size=4000)

    def f1(values: np.ndarray) -> np.ndarray:
        hits, spurious, missed = (draws @ values).T
        return 2 * hits / (2 * hits + spurious + missed)

    expected = np.percentile(f1(new) - f1(old), [2.5, 97.5])
    assert difference.interval == pytest.approx(tuple(expected), abs=0.01)


def test_equal_versions_have_no_flips(scored: Scored) -> None:
    examples = holdout(50)
    predicted = answers(examples, right=0.8, seed=0)
    both = scored(examples, predicted)
    assert list(flips(examples, predicted, predicted)) == []
    for task in task_differences(both, both, [], interval_of=independent_interval):
        assert task.difference == 0.0
        assert task.interval is not None
        assert task.interval[0] <= 0.0 <= task.interval[1]


def test_the_interval_of_judged_texts_is_that_of_the_gates(scored: Scored) -> None:
    examples = holdout(300)
    people = {example.key: ["ann"] for example in examples[:100]}
    old, new = (
        scored(examples, answers(examples, right=right, seed=seed)) for right, seed in ((0.7, 1), (0.8, 2))
    )
    owners = [people.get(example.key, []) for example in examples]
    for task in task_differences(old, new, [], interval_of=clustered_interval(examples, people)):
        gate = compare(task.task, new.by_task[task.task], old.by_task[task.task], examples, owners)
        assert task.interval == gate.interval
        assert task.difference == gate.difference
