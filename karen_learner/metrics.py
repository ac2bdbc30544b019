"""Metrics from counts: F1, exact spans, intervals. Training, validation and simulation use them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from statistics import NormalDist

Span = tuple[int, int, str]
"""Start, end (in characters) and label of an entity."""
Interval = tuple[float, float]

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def f1(hits: float, spurious: float, missed: float) -> float:
    """F1 = 2 TP / (2 TP + FP + FN); 1 if nothing is gold and nothing is predicted."""
    total = 2.0 * hits + spurious + missed
    return 1.0 if total == 0.0 else float(2.0 * hits / total)


def compare_spans(
    gold: Iterable[Span], predicted: Iterable[Span]
) -> tuple[Counter[Span], Counter[Span], Counter[Span]]:
    """Hits, spurious and missed spans. A hit has the exact bounds and the label."""
    known, found = Counter(gold), Counter(predicted)
    return known & found, found - known, known - found


def span_f1(texts: Iterable[tuple[Iterable[Span], Iterable[Span]]]) -> float:
    """F1 of exact spans over all texts, from the gold and the predicted spans of each."""
    counts = [[part.total() for part in compare_spans(gold, predicted)] for gold, predicted in texts]
    return f1(*(sum(column) for column in zip(*counts, strict=True))) if counts else 1.0


def wilson(successes: float, trials: float, *, z: float = Z_95) -> Interval:
    """The score interval of a proportion (Wilson, 1927), without continuity correction."""
    if trials == 0:
        return (0.0, 1.0)
    share, shrink = successes / trials, z * z / trials
    centre = (share + shrink / 2.0) / (1.0 + shrink)
    half = z * math.sqrt(share * (1.0 - share) / trials + shrink / (4.0 * trials)) / (1.0 + shrink)
    return (max(0.0, centre - half), min(1.0, centre + half))


def paired_interval(gains: int, losses: int, trials: int, *, z: float = Z_95) -> Interval:
    """Interval of the difference of two paired proportions: the adjusted Wald interval.

    `gains` trials succeed only in the second sample, `losses` only in the first. The method adds one trial to
    each of both counts (Bonett and Price, *Journal of Educational and Behavioral Statistics* 37, 2012).
    """
    total = trials + 2
    gained, lost = (gains + 1) / total, (losses + 1) / total
    difference = gained - lost
    half = z * math.sqrt((gained + lost - difference * difference) / total)
    return (max(-1.0, difference - half), min(1.0, difference + half))


def student_quantile(probability: float, degrees: float) -> float:
    """The quantile of Student's t, from the normal one (Abramowitz and Stegun, 26.7.5).

    Within 0.5 % from 3 degrees of freedom, exact for 1. Fewer than 1 count as 1.
    """
    if degrees <= 1.0:
        return math.tan(math.pi * (probability - 0.5))
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))


def binomial_tail(successes: int, trials: int, chance: float = 0.5) -> float:
    """The probability of at least `successes` in independent trials."""
    logs = [
        math.lgamma(trials + 1)
        - math.lgamma(count + 1)
        - math.lgamma(trials - count + 1)
        + count * math.log(chance)
        + (trials - count) * math.log1p(-chance)
        for count in range(successes, trials + 1)
    ]  # each by itself: the first ones may be too small for a float
    return min(1.0, math.fsum(map(math.exp, logs)))
