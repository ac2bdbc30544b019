"""Paired comparisons: standard errors, clusters and exact tests, against references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from karen_learner.validation import Prediction
from karen_learner.validation.comparison import (
    OVERLAP,
    Comparison,
    clustered_variance,
    compare,
    p_value,
    sign_test,
    signs,
    z_of,
)
from karen_learner.validation.gates.limits import compare_overall
from tests.validation.evidences import evidence
from tests.validation.holdouts import answers, gold, holdout, word


@pytest.mark.parametrize(
    ("gains", "losses"), [(0, 0), (1, 0), (7, 0), (32, 8), (8, 32), (300, 280), (2000, 1900), (0, 5)]
)
def test_the_sign_test_is_the_exact_binomial_test(gains: int, losses: int) -> None:
    expected = stats.binomtest(gains, gains + losses, alternative="greater").pvalue if gains + losses else 1.0

    assert sign_test(gains, losses) == pytest.approx(expected, rel=1e-9)


def test_the_p_value_is_the_largest_one() -> None:
    assert p_value(0.1, 0.05, (10, 1)) == pytest.approx(stats.norm.sf(2.0))
    assert p_value(0.1, 0.01, (4, 1), (3, 0)) == pytest.approx(
        stats.binomtest(4, 5, alternative="greater").pvalue
    )
    assert p_value(0.1, math.inf) == 0.5
    assert (p_value(0.1, 0.0), p_value(0.0, 0.0), p_value(-0.1, 0.0)) == (0.0, 1.0, 1.0)


def test_a_z_value_is_the_quantile_of_its_p_value() -> None:
    assert z_of(0.01) == pytest.approx(stats.norm.isf(0.01))
    assert z_of(0.0) > 7.0
    assert z_of(1.0) < -7.0


def test_without_clusters_the_standard_error_is_that_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(size=80)
    parts = (values - values.mean()) / 80

    variance = clustered_variance(parts, range(80), [()] * 80)
    assert math.sqrt(variance) == pytest.approx(stats.sem(values))


def test_the_clustered_variance_sums_products_of_dependent_texts() -> None:
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 12, size=60).tolist()
    people = [tuple({f"u{one}" for one in rng.integers(0, 9, size=1)}) for _ in range(60)]
    shared = rng.normal(size=12)
    parts = shared[groups] + rng.normal(size=60)
    parts = (parts - parts.mean()) / 60
    pairs = sum(
        parts[i] * parts[j]
        for i in range(60)
        for j in range(60)
        if groups[i] == groups[j] or people[i] == people[j]
    )
    one_way = max(sum(parts[np.array(groups) == group].sum() ** 2 for group in set(groups)), pairs)
    smallest = min(len(set(groups)), len(set(people)))

    assert clustered_variance(parts, groups, people) == pytest.approx(one_way * smallest / (smallest - 1))


def test_dependent_texts_raise_the_standard_error() -> None:
    parts = np.repeat([0.1, -0.1, 0.1, -0.1], 5) / 20
    single = clustered_variance(parts, range(20), [()] * 20)

    assert clustered_variance(parts, np.repeat(range(4), 5).tolist(), [()] * 20) > 4 * single
    assert clustered_variance(parts, range(20), [(f"u{at // 5}",) for at in range(20)]) > 4 * single


def test_texts_of_one_cluster_have_no_standard_error() -> None:
    assert clustered_variance(np.zeros(9), ["same"] * 9, [()] * 9) == math.inf
    assert clustered_variance(np.zeros(9), range(9), [("ann",)] * 9) == math.inf


def test_the_variance_of_texts_of_several_people_counts_each_text_once() -> None:
    parts = np.array([0.1, -0.1, 0.3, -0.3])
    both = clustered_variance(parts, range(4), [("ann", "bob"), ("cid",), ("dan",), ("eve",)])

    assert both == pytest.approx((parts**2).sum() * 4 / 3)


def test_signs_count_clusters() -> None:
    assert signs(np.array([1.0, 1.0, -1.0, 0.0, 1.0, -1.0]), ["a", "a", "b", "c", "d", "d"]) == (1, 1)


def comparison(
    examples: list, candidate: list[Prediction], champion: list[Prediction], task: str
) -> Comparison:
    found = evidence(examples, candidate, champion)
    pair = found.on_gold(task)
    assert pair is not None
    return compare(task, *pair, found.examples, found.people)


def test_the_error_of_an_accuracy_is_that_of_the_paired_difference() -> None:
    examples = [gold(word(at), intent="billing") for at in range(300)]
    candidate = [Prediction("billing" if (at - 5) % 300 < 270 else "x") for at in range(300)]
    champion = [Prediction("billing" if at < 268 else "x") for at in range(300)]
    difference = [
        (a.intent == "billing") - (b.intent == "billing") for a, b in zip(candidate, champion, strict=True)
    ]

    found = comparison(examples, candidate, champion, "intent")
    assert found.error == pytest.approx(OVERLAP * stats.sem(difference))
    assert (found.gains, found.losses) == (7, 5)
    assert found.interval is not None
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 1.959964 * found.error)


def test_the_error_of_an_f1_is_that_of_the_jackknife() -> None:
    examples = [example for example in holdout(800) if example.entities is not None]
    sides = [answers(examples, right=right, seed=at) for at, right in enumerate([0.8, 0.75])]
    found = evidence(examples, *sides)
    pair = found.on_gold("entities")
    assert pair is not None

    error = compare("entities", *pair, found.examples, found.people).error
    assert error == pytest.approx(OVERLAP * _jackknife_error(pair[0].values, pair[1].values), rel=0.02)


def _jackknife_error(candidate: np.ndarray, champion: np.ndarray) -> float:
    def f1(values: np.ndarray) -> float:
        hits, spurious, missed = values.sum(axis=0)
        return float(2 * hits / (2 * hits + spurious + missed))

    count = len(candidate)
    left_out = np.array(
        [f1(np.delete(candidate, at, axis=0)) - f1(np.delete(champion, at, axis=0)) for at in range(count)]
    )
    return math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))


def test_the_overall_error_counts_a_text_with_all_its_tasks() -> None:
    examples = [gold(word(at), intent="a", sentiment="b") for at in range(100)]
    rng = np.random.default_rng(4)
    sides = [
        [Prediction("a" if i else "x", "b" if s else "x") for i, s in rng.random((100, 2)) < share]
        for share in (0.8, 0.7)
    ]
    by_text = [
        sum((a.intent == "a", a.sentiment == "b")) / 2 - sum((b.intent == "a", b.sentiment == "b")) / 2
        for a, b in zip(*sides, strict=True)
    ]
    found = evidence(examples, *sides)
    pairs = {task: found.on_gold(task) for task in ("intent", "sentiment")}
    assert compare_overall(found, pairs).error == pytest.approx(OVERLAP * stats.sem(by_text))
