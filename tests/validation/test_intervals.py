"""Intervals against SciPy's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from karen_learner.metrics import paired_interval, student_quantile, wilson
from karen_learner.validation import ScoredTexts
from karen_learner.validation.results import TaskResult, bootstrap
from tests.validation.holdouts import answers, holdout

Scored = Callable[..., ScoredTexts]


@pytest.mark.parametrize(
    ("right", "texts"), [(0, 1), (1, 1), (0, 20), (20, 20), (17, 20), (254, 300), (2999, 3000)]
)
def test_wilson_equals_scipy(right: int, texts: int) -> None:
    expected = stats.binomtest(right, texts).proportion_ci(method="wilson")

    assert wilson(right, texts) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("degrees", [1, 3, 5, 9, 30, 255])
@pytest.mark.parametrize("probability", [0.8, 0.975])
def test_quantiles_are_those_of_student(degrees: int, probability: float) -> None:
    expected = stats.t.ppf(probability, degrees)
    assert student_quantile(probability, degrees) == pytest.approx(expected, rel=0.005)


def test_corrected_quantiles_are_those_of_student() -> None:
    """With the degrees of freedom that trends have at least, and the correction for 40 metrics."""
    probability = 1 - 0.025 / 40
    assert student_quantile(probability, 9) == pytest.approx(stats.t.ppf(probability, 9), rel=0.005)


def test_without_trials_the_interval_is_0_to_1() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("gains", "losses", "texts", "expected"),
    # (gains + 1 - losses - 1) / (texts + 2), and 1.96 times the root of the variance of that mean
    [(5, 5, 98, (-0.0679, 0.0679)), (10, 2, 98, (0.0084, 0.1516)), (0, 0, 8, (-0.2772, 0.2772))],
)
def test_the_paired_interval_by_hand(
    gains: int, losses: int, texts: int, expected: tuple[float, float]
) -> None:
    assert paired_interval(gains, losses, texts) == pytest.approx(expected, abs=1e-4)
    low, high = paired_interval(losses, gains, texts)
    assert (-high, -low) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("texts", [40, 300])
def test_the_paired_interval_covers_the_true_difference(texts: int) -> None:
    drawn = np.random.default_rng(4).multinomial(texts, [0.10, 0.04, 0.86], size=4000)
    bounds = [paired_interval(int(gains), int(losses), texts) for gains, losses, _ in drawn]
    covered = np.mean([low <= 0.06 <= high for low, high in bounds])
    assert covered >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 4000)


def accuracies(values: list[int]) -> TaskResult:
    return TaskResult("intent", np.arange(len(values)), np.array(values, dtype=np.float64))


def test_the_bootstrap_is_close_to_scipy() -> None:
    values = [1] * 80 + [0] * 20

    ours = bootstrap([accuracies(values)], texts=100, resamples=5000)
    theirs = stats.bootstrap(
        (np.array(values),),
        np.mean,
        n_resamples=5000,
        method="percentile",
        random_state=np.random.default_rng(1),
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.011)


def test_the_bootstrap_is_seeded() -> None:
    result = accuracies([1, 0, 1, 1, 0, 1, 1, 1])

    assert bootstrap([result], texts=8) == bootstrap([result], texts=8) == (0.375, 1.0)
    assert bootstrap([result], texts=8, resamples=7, seed=1) != bootstrap([result], texts=8, resamples=7)


def test_the_bootstrap_of_entities_resamples_texts() -> None:
    values = np.array([[2, 0, 0], [0, 1, 1], [1, 0, 2], [0, 0, 0]], dtype=np.float64)
    result = TaskResult("entities", np.arange(4), values)

    rng = np.random.default_rng(0)
    draws = np.concatenate([rng.multinomial(4, np.full(4, 0.25), size=100) for _ in range(10)])
    hits, spurious, missed = (draws @ values).T
    total = 2 * hits + spurious + missed
    scores = [2 * hit / all_ if all_ else 1.0 for hit, all_ in zip(hits, total, strict=True)]
    assert bootstrap([result], texts=4) == pytest.approx(tuple(np.percentile(scores, [2.5, 97.5])), abs=1e-12)


def test_a_resample_without_texts_of_the_task_is_left_out() -> None:
    result = TaskResult("intent", np.array([3]), np.array([1.0]))

    assert bootstrap([result], texts=50) == (1.0, 1.0)


def test_every_score_is_in_its_interval(scored: Scored) -> None:
    examples = holdout(200)
    result = scored(examples, answers(examples, right=0.8, seed=3)).result

    for name, (low, high) in result.intervals.items():
        assert 0.0 <= low <= getattr(result, name) <= high <= 1.0
    assert set(result.intervals) == {"accuracy", "intent_accuracy", "sentiment_accuracy", "entity_accuracy"}
