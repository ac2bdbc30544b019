"""The verdict on a candidate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from karen_learner.errors import InvalidInput
from karen_learner.records import Example, Verdict
from karen_learner.settings import Settings
from karen_learner.validation import Prediction, ScoredTexts, judge
from karen_learner.validation.gate import compare_overall
from tests.validation.holdouts import answers, gold, holdout

Scored = Callable[..., ScoredTexts]
TEXTS = [gold(f"text {at}", intent="billing") for at in range(300)]


@pytest.fixture
def judged(settings: Settings, scored: Scored) -> Callable[..., Verdict]:
    def run(
        candidate: Sequence[Prediction], champion: Sequence[Prediction], texts: Sequence[Example] = TEXTS
    ) -> Verdict:
        scores = scored(texts, candidate), scored(texts, champion)
        return judge(*scores, gate=settings.gate, thresholds=settings.thresholds)

    return run


def intents(right: int, *, texts: int = 300, shift: int = 0) -> list[Prediction]:
    """Predictions: `right` consecutive ones are correct, from position `shift`."""
    return [Prediction("billing" if (at - shift) % texts < right else "refund") for at in range(texts)]


def detail(verdict: Verdict, name: str) -> str:
    return next(check.detail for check in verdict.checks if check.name == name)


def test_a_better_candidate_is_accepted(judged: Callable[..., Verdict]) -> None:
    verdict = judged(intents(270), intents(260))

    assert (verdict.accepted, verdict.harmful, verdict.improved) == (True, False, ("intent",))
    assert detail(verdict, "intent_not_worse") == "intent 0.867 -> 0.900 on 300 texts (margin 0.010)"
    assert detail(verdict, "some_task_better") == "improved: intent"


def test_an_equal_candidate_is_rejected(judged: Callable[..., Verdict]) -> None:
    verdict = judged(intents(270), intents(270))

    assert (verdict.accepted, verdict.harmful) == (False, False)
    assert verdict.summary == "no task improved"


def test_only_a_task_of_the_new_examples_counts_as_an_improvement(
    scored: Callable[..., ScoredTexts], settings: Settings
) -> None:
    scores = scored(TEXTS, intents(270)), scored(TEXTS, intents(260))

    verdict = judge(*scores, gate=settings.gate, thresholds=settings.thresholds, taught={"sentiment"})

    assert (verdict.accepted, verdict.harmful, verdict.improved) == (False, False, ("intent",))
    assert verdict.summary == "no task improved"


def test_a_worse_candidate_is_harmful(judged: Callable[..., Verdict]) -> None:
    verdict = judged(intents(250), intents(280))

    assert (verdict.accepted, verdict.harmful, verdict.improved) == (False, True, ())
    assert detail(verdict, "intent_not_worse").endswith("on 300 texts (margin 0.017): worse")


def test_the_margin_is_the_standard_error_of_the_paired_difference(judged: Callable[..., Verdict]) -> None:
    candidate, champion = intents(270, shift=5), intents(268)
    difference = [
        (a.intent == "billing") - (b.intent == "billing") for a, b in zip(candidate, champion, strict=True)
    ]

    margin = stats.sem(difference)
    assert 0.002 < margin < 0.05
    assert f"(margin {margin:.3f})" in detail(judged(candidate, champion), "intent_not_worse")


@pytest.mark.parametrize(
    ("worse_by", "worse", "harmful"), [(1, False, False), (2, True, False), (3, True, False), (4, True, True)]
)
def test_a_fall_beyond_the_margin_is_worse_and_beyond_two_margins_harmful(
    worse_by: int, worse: bool, harmful: bool, settings: Settings, judged: Callable[..., Verdict]
) -> None:
    settings.gate.update({"margin_standard_errors": 0.0, "min_margin": 0.005})  # 1.5 of 300 texts

    verdict = judged(intents(290 - worse_by), intents(290))

    assert [check.passed for check in verdict.checks if check.name == "intent_not_worse"] == [not worse]
    assert verdict.harmful is harmful


def test_the_margin_is_never_wider_than_allowed(settings: Settings, judged: Callable[..., Verdict]) -> None:
    settings.gate.update({"max_margin": 0.01})

    assert "(margin 0.010)" in detail(judged(intents(240, shift=60), intents(240)), "intent_not_worse")


def test_the_margin_of_an_f1_is_that_of_the_jackknife(settings: Settings, scored: Scored) -> None:
    settings.gate.update({"max_margin": 1.0})
    examples = [example for example in holdout(800) if example.entities is not None]
    sides = [
        scored(examples, answers(examples, right=right, seed=at)) for at, right in enumerate([0.8, 0.75])
    ]

    verdict = judge(sides[0], sides[1], gate=settings.gate, thresholds=settings.thresholds)
    margin = float(detail(verdict, "entities_not_worse").rsplit("margin ", 1)[1].rstrip(")"))
    assert margin == pytest.approx(
        _jackknife_error(*(side.by_task["entities"].values for side in sides)), abs=6e-4
    )


def _jackknife_error(candidate: np.ndarray, champion: np.ndarray) -> float:
    def f1(values: np.ndarray) -> float:
        hits, spurious, missed = values.sum(axis=0)
        return float(2 * hits / (2 * hits + spurious + missed))

    count = len(candidate)
    left_out = np.array(
        [f1(np.delete(candidate, at, axis=0)) - f1(np.delete(champion, at, axis=0)) for at in range(count)]
    )
    return math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))


def test_a_gain_in_one_task_does_not_compensate_a_loss_in_another(judged: Callable[..., Verdict]) -> None:
    texts = [gold(f"text {at}", intent="billing", sentiment="positive") for at in range(200)]
    champion = [
        Prediction("billing" if at < 180 else "x", "positive" if at < 180 else "x") for at in range(200)
    ]
    candidate = [Prediction("billing", "positive" if at < 160 else "x") for at in range(200)]

    verdict = judged(candidate, champion, texts)
    assert (verdict.accepted, verdict.harmful, verdict.improved) == (False, True, ("intent",))


def test_a_task_without_a_pipe_in_the_champion_counts_as_improved(judged: Callable[..., Verdict]) -> None:
    texts = [gold(f"text {at}", intent="billing", sentiment="positive") for at in range(50)]

    verdict = judged([Prediction("billing", "positive")] * 50, [Prediction("billing")] * 50, texts)
    assert (verdict.accepted, verdict.improved) == (True, ("sentiment",))


def test_a_task_without_a_pipe_in_the_candidate_is_harmful(judged: Callable[..., Verdict]) -> None:
    texts = [gold(f"text {at}", intent="billing", sentiment="positive") for at in range(50)]

    assert judged([Prediction("billing")] * 50, [Prediction("billing", "positive")] * 50, texts).harmful


class TestThresholds:
    def test_a_threshold_that_the_champion_meets_must_be_met(
        self, settings: Settings, judged: Callable[..., Verdict]
    ) -> None:
        settings.gate.update({"min_margin": 0.05})
        texts = [gold(f"text {at}", intent="billing", sentiment="positive") for at in range(200)]
        champion = [
            Prediction("billing" if at < 161 else "x", "positive" if at < 190 else "x") for at in range(200)
        ]
        candidate = [Prediction("billing" if at < 159 else "x", "positive") for at in range(200)]

        verdict = judged(candidate, champion, texts)
        assert (verdict.accepted, verdict.harmful) == (False, False)
        assert verdict.summary == (
            "intent_accuracy 0.795 is below its threshold of 0.800, which the champion meets with 0.805"
        )

    def test_a_threshold_that_the_champion_misses_may_be_missed_by_less(
        self, judged: Callable[..., Verdict]
    ) -> None:
        verdict = judged(intents(200), intents(180))

        assert verdict.accepted
        assert detail(verdict, "accuracy_threshold") == (
            "accuracy 0.667 is below its threshold of 0.850, which the champion (0.600) misses too"
        )

    def test_a_threshold_that_the_champion_misses_may_not_be_missed_by_more(
        self, judged: Callable[..., Verdict]
    ) -> None:
        verdict = judged(intents(180), intents(200))

        assert "worse than the champion's 0.667" in detail(verdict, "intent_accuracy_threshold")

    def test_strict_requires_all_thresholds(self, settings: Settings, judged: Callable[..., Verdict]) -> None:
        settings.thresholds.update({"policy": "strict"})

        assert not judged(intents(200), intents(180)).accepted
        assert judged(intents(290), intents(280)).accepted

    def test_a_task_without_texts_has_no_check(self, judged: Callable[..., Verdict]) -> None:
        names = {check.name for check in judged(intents(290), intents(280)).checks}

        assert names == {
            "intent_not_worse",
            "some_task_better",
            "accuracy_threshold",
            "intent_accuracy_threshold",
        }


def test_the_first_model_is_not_gated(settings: Settings, scored: Scored) -> None:
    settings.thresholds.update({"policy": "strict"})
    verdict = judge(scored(TEXTS, intents(3)), None, gate=settings.gate, thresholds=settings.thresholds)

    assert (verdict.accepted, verdict.harmful, verdict.improved) == (True, False, ("intent",))
    assert verdict.summary == "first model: deployed without a gate"


def test_without_holdout_texts_a_candidate_is_rejected(judged: Callable[..., Verdict]) -> None:
    verdict = judged([], [], [])

    assert (verdict.accepted, verdict.harmful) == (False, False)
    assert verdict.summary == "no holdout texts: add gold examples"


def test_both_models_must_be_scored_on_the_same_texts(settings: Settings, scored: Scored) -> None:
    with pytest.raises(InvalidInput, match="different texts"):
        judge(
            scored(TEXTS, intents(300)),
            scored(TEXTS[:10], intents(10, texts=10)),
            gate=settings.gate,
            thresholds=settings.thresholds,
        )


def test_the_overall_margin_counts_a_text_with_all_its_tasks(settings: Settings, scored: Scored) -> None:
    settings.gate.update({"max_margin": 1.0})
    settings.thresholds.update({"accuracy": 1.0})
    texts = [gold(f"text {at}", intent="a", sentiment="b") for at in range(100)]
    rng = np.random.default_rng(4)
    sides = [
        [Prediction("a" if i else "x", "b" if s else "x") for i, s in rng.random((100, 2)) < share]
        for share in (0.8, 0.7)
    ]
    by_text = [
        sum((a.intent == "a", a.sentiment == "b")) / 2 - sum((b.intent == "a", b.sentiment == "b")) / 2
        for a, b in zip(*sides, strict=True)
    ]
    comparison = compare_overall(scored(texts, sides[0]), scored(texts, sides[1]), settings.gate)
    assert comparison.margin == pytest.approx(stats.sem(by_text), abs=1e-12)


def with_probability(right: int, probability: float) -> list[Prediction]:
    """As `intents`, with this probability of every gold label."""
    return [Prediction(one.intent, of_gold={"intent": probability}) for one in intents(right)]


def test_a_higher_probability_of_the_gold_labels_is_an_improvement(
    judged: Callable[..., Verdict],
) -> None:
    verdict = judged(with_probability(270, 0.7), with_probability(270, 0.6))

    assert (verdict.accepted, verdict.improved) == (True, ("intent",))
    assert not judged(with_probability(270, 0.6), with_probability(270, 0.7)).accepted
    assert not judged(with_probability(270, 0.6), with_probability(270, 0.6)).accepted


def test_a_higher_probability_does_not_compensate_a_loss_beyond_the_margin(
    judged: Callable[..., Verdict],
) -> None:
    verdict = judged(with_probability(250, 0.9), with_probability(280, 0.5))

    assert (verdict.accepted, verdict.harmful, verdict.improved) == (False, True, ())


def test_one_text_with_a_tiny_probability_does_not_decide(judged: Callable[..., Verdict]) -> None:
    lower, higher = with_probability(270, 0.5), with_probability(270, 0.6)
    higher[299] = Prediction("refund", of_gold={"intent": 1e-30})

    assert judged(higher, lower).accepted


def test_log_likelihoods_compare_only_texts_with_a_label_of_both_models(
    judged: Callable[..., Verdict],
) -> None:
    """A label that is only declared has a probability in the candidate, and none in the champion."""
    unknown = [Prediction("refund")] * 30
    champion = [*with_probability(270, 0.6)[:270], *unknown]
    candidate = [*with_probability(270, 0.59)[:270], *[Prediction("refund", of_gold={"intent": 0.3})] * 30]

    assert not judged(candidate, champion).accepted
    assert not judged([Prediction("billing")] * 300, [Prediction("billing")] * 300).accepted


def test_a_higher_probability_with_a_slightly_lower_score_is_not_an_improvement(
    judged: Callable[..., Verdict],
) -> None:
    """Otherwise ten consecutive steps within the margin could add up to a large loss."""
    verdict = judged(with_probability(269, 0.9), with_probability(270, 0.5))

    assert (verdict.accepted, verdict.harmful, verdict.improved) == (False, False, ())


def test_the_verdict_names_the_log_likelihoods(judged: Callable[..., Verdict]) -> None:
    verdict = judged(with_probability(270, 0.7), with_probability(270, 0.6))

    assert detail(verdict, "intent_not_worse").endswith("log-likelihood -0.511 -> -0.357")
