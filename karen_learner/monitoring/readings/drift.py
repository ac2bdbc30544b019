"""Readings of changes in the texts, without labels: a domain classifier, and new words.

The domain classifier tells the newest turns from older ones by hashed features (Lopez-Paz and Oquab,
*Revisiting classifier two-sample tests*, ICLR 2017). It predicts by a kernel ridge regression, leave-one-out.
These predictions have a closed form: each permutation costs one product. The test assumes that turns are
exchangeable: turns of one person are not, therefore a trigger also demands an effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karen_learner.metrics import Z_95
from karen_learner.monitoring.readings.recent import TurnFacts
from karen_learner.monitoring.readings.sources import Sources
from karen_learner.records.readings import Reading

SAMPLE = 300
"""Texts of each side that are compared."""
MIN_SAMPLE = 100
EVERY = 150
"""New turns after which the comparison is repeated: half of a sample. It takes 50 ms of CPU."""
PERMUTATIONS = 199
PAUSE = timedelta(minutes=1)
"""Time between two comparisons at least: a minute of busy traffic has thousands of turns."""
EFFECTS = {"input_drift": 0.15, "vocabulary": 0.1}
"""Distances from the reference that are a reason to act: turns of one person make small ones by chance."""
LEVEL = 0.01
RIDGE = 1.0
LEVEL_Z = 2.326
"""The quantile of the level, on one side."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """The newest texts and older ones: effect of the domain classifier, its p value, and unknown words."""

    effect: float
    p_value: float
    unknown: float
    expected: float
    error: float
    texts: int
    turn_count: int
    at: datetime


def input_drift(sources: Sources) -> Reading:
    """The area under the ROC curve of a classifier of newest against older texts: 0.5 without drift.

    The alarm is a permutation test. `direction` tells whether the newest texts have more new words.
    """
    found = _compared(sources)
    if found is None:
        return sources.reading(
            "input_drift", None, unit="share", direction="higher_is_worse", observations=len(sources.turns)
        )
    return sources.reading(
        "input_drift",
        found.effect,
        unit="share",
        direction="higher_is_worse",
        reference=0.5,
        observations=2 * found.texts,
        alarm=found.p_value <= LEVEL,
        false_alarms_per_month=LEVEL * _comparisons_per_month(sources),
        detail={
            "p": found.p_value,
            "direction": _direction(found),
            "new_words": found.unknown - found.expected,
        },
    )


def vocabulary(sources: Sources) -> Reading:
    """Share of the words of the newest texts that no older text has.

    `reference` is the same share of each older text against the other older texts.
    """
    found = _compared(sources)
    if found is None:
        return sources.reading(
            "vocabulary", None, unit="share", direction="higher_is_worse", observations=len(sources.turns)
        )
    half = Z_95 * found.error
    return sources.reading(
        "vocabulary",
        found.unknown,
        unit="share",
        direction="higher_is_worse",
        interval=(max(0.0, found.unknown - half), min(1.0, found.unknown + half)),
        reference=found.expected,
        observations=2 * found.texts,
        alarm=found.unknown - found.expected > LEVEL_Z * found.error,
        false_alarms_per_month=LEVEL * _comparisons_per_month(sources),
    )


def _direction(found: Compared) -> str:
    difference = found.unknown - found.expected
    if abs(difference) <= LEVEL_Z * found.error:
        return "same words"
    return "new words" if difference > 0 else "fewer words"


def _comparisons_per_month(sources: Sources) -> float:
    turns = [one.at for one in sources.turns]
    return sources.windows_per_month(turns) * len(turns) / EVERY


def _compared(sources: Sources) -> Compared | None:
    """The comparison of the newest texts with older ones, repeated after `EVERY` new turns."""
    kept: dict[str, Any] = sources.kept
    last: Compared | None = kept.get("compared")
    if last is not None and (
        sources.turn_count - last.turn_count < EVERY or abs(sources.now - last.at) < PAUSE
    ):
        return last
    texts = [one for one in sources.turns if len(one.features)]
    size = min(SAMPLE, len(texts) // 2)
    if size < MIN_SAMPLE:
        return None
    older = texts[: len(texts) - size]
    chosen = np.random.default_rng(len(older)).choice(len(older), size, replace=False)
    sample = [older[at] for at in sorted(chosen)]
    kept["compared"] = found = compare(sample, texts[-size:], sources.turn_count, sources.now)
    return found


def compare(
    older: Sequence[TurnFacts], newest: Sequence[TurnFacts], turn_count: int, now: datetime
) -> Compared:
    """Compare two samples of texts of the same size."""
    labels = np.repeat([0.0, 1.0], [len(older), len(newest)])
    random = np.random.default_rng(0)
    permuted = [random.permutation(labels) for _ in range(PERMUTATIONS)]
    effects = _effects(_hat([*older, *newest]), np.column_stack([labels, *permuted]))
    effect = float(effects[0])
    p_value = (1 + int(np.count_nonzero(effects[1:] >= effect))) / (1 + PERMUTATIONS)
    unknown, expected, error = _unknown_words(older, newest)
    return Compared(effect, p_value, unknown, expected, error, len(newest), turn_count, now)


def _hat(texts: Sequence[TurnFacts]) -> Doubles:
    """The hat matrix of the kernel ridge regression on normalized TF-IDF of hashed features."""
    used, columns = np.unique(np.concatenate([one.features for one in texts]), return_inverse=True)
    rows = np.repeat(np.arange(len(texts)), [len(one.features) for one in texts])
    matrix = np.zeros((len(texts), len(used)), dtype=np.float32)  # few of the 4,096 features occur
    matrix[rows, columns] = 1.0
    matrix *= np.log((1.0 + len(texts)) / (1.0 + matrix.sum(axis=0)))
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    kernel = (matrix @ matrix.T).astype(np.float64)
    return np.asarray(np.linalg.solve(kernel + RIDGE * np.eye(len(texts)), kernel), dtype=np.float64)


def _effects(hat: Doubles, labels: Doubles) -> Doubles:
    """The areas under the ROC curve of the leave-one-out predictions, one for each column of labels."""
    centred = labels - labels.mean(axis=0)
    residuals = (centred - hat @ centred) / (1.0 - np.diag(hat))[:, np.newaxis]
    order = np.argsort(centred - residuals, axis=0, kind="stable")
    ranks = np.empty(labels.shape, dtype=np.float64)
    np.put_along_axis(ranks, order, np.arange(1.0, len(labels) + 1)[:, np.newaxis], axis=0)
    positive = labels.sum(axis=0)
    above = (ranks * labels).sum(axis=0) - positive * (positive + 1.0) / 2.0
    return np.asarray(above / (positive * (len(labels) - positive)), dtype=np.float64)


def _unknown_words(older: Sequence[TurnFacts], newest: Sequence[TurnFacts]) -> tuple[float, float, float]:
    """Shares of unknown words of the newest and of the older texts, and the error of their difference."""
    counts: dict[int, int] = {}
    for one in older:
        for word in one.words:
            counts[word] = counts.get(word, 0) + 1
    new = np.array([_share(one, lambda word: word not in counts) for one in newest])
    old = np.array([_share(one, lambda word: counts[word] == 1) for one in older])
    error = math.sqrt(float(new.var() / len(new) + old.var() / len(old)))
    return float(new.mean()), float(old.mean()), error


def _share(one: TurnFacts, is_unknown: Any) -> float:
    return sum(map(is_unknown, one.words)) / len(one.words) if one.words else 0.0
