"""From margins to probabilities that can be believed, and to a decision what is out of scope.

    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017 (temperature scaling,
    expected calibration error).

Pure functions over arrays. What they are fitted on must be data that the weights have not seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]

ECE_BINS = 15
DOUBT_WEIGHT = 0.75
"""What it counts, beside the largest margin, how strange a text looks, and how far it is on the side of the
label for texts that belong nowhere. The more, the better is found what is far from all that was learned, and
the worse what is near to some of it: chosen on held-out texts of both."""
NEARNESS_WEIGHT = 1.5
"""What it counts how near a text's vector is to those of a label, where there are vectors: chosen alike."""
_FLOAT_NOISE = 1e-4
"""A text gets slightly different scores in different batches."""
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
_SCALES = (1e-2, 1e2)
_TOLERANCE = 1e-3
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Calibration:
    """What was fitted, for one version of the weights.

    Margins times `scale` go through softmax (or the logistic function). A text is out of scope if its
    score (see `in_scope_scores`) is below `threshold`; None: nothing ever is.
    """

    scale: float
    threshold: float | None = None
    false_alarm_rate: float | None = None
    out_of_scope_label: str | None = None

    def as_record(self) -> dict[str, str | None]:
        """For JSON. Numbers are strings: spaCy's JSON rounds them, and a threshold must stay what it is."""
        return {
            "scale": repr(self.scale),
            "threshold": None if self.threshold is None else repr(self.threshold),
            "doubt_weight": repr(DOUBT_WEIGHT),
            "nearness_weight": repr(NEARNESS_WEIGHT),
            "false_alarm_rate": None if self.false_alarm_rate is None else repr(self.false_alarm_rate),
            "out_of_scope_label": self.out_of_scope_label,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Calibration":
        """What `as_record` has made. A threshold for scores of another kind is none."""
        weights = {"doubt_weight": DOUBT_WEIGHT, "nearness_weight": NEARNESS_WEIGHT}
        same = all(record.get(name) == repr(weight) for name, weight in weights.items())
        threshold, rate = (record["threshold"], record["false_alarm_rate"]) if same else (None, None)
        return cls(
            scale=float(record["scale"]),
            threshold=None if threshold is None else float(threshold),
            false_alarm_rate=None if rate is None else float(rate),
            out_of_scope_label=record["out_of_scope_label"],
        )


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration did, on the examples it was fitted on.

    `ece_*`, expected calibration errors, and `log_loss_*` are before and after. `false_alarms` is the
    share of in-scope examples that are refused; `out_of_scope_recall` that of the out-of-scope ones, None
    if there were none.
    """

    calibration: Calibration
    examples: int
    ece_before: float
    ece_after: float
    log_loss_before: float
    log_loss_after: float
    false_alarms: float | None
    out_of_scope_recall: float | None


def softmax(margins: Floats) -> Floats:
    """Probabilities of exclusive labels; shape (texts, labels)."""
    powers = np.exp(margins - margins.max(axis=1, keepdims=True, initial=-np.inf))
    result: Floats = powers / powers.sum(axis=1, keepdims=True)
    return result


def logistic(margins: Floats) -> Floats:
    """The probability of each label by itself; shape (texts, labels)."""
    result: Floats = 1.0 / (1.0 + np.exp(-np.clip(margins, -60.0, 60.0)))
    return result


def log_loss(probabilities: Floats, truths: Floats, *, exclusive: bool) -> float:
    """Mean negative log-likelihood of a text. `truths` of 1.0 and 0.0, NaN where nothing is known."""
    likelihood = np.log(np.maximum(np.where(truths == 1.0, probabilities, 1.0), _SMALLEST))
    if not exclusive:
        likelihood = likelihood + np.log(
            np.maximum(np.where(truths == 0.0, 1.0 - probabilities, 1.0), _SMALLEST)
        )
    return float(-likelihood.sum(axis=1).mean())


def fit_scale(margins: Floats, truths: Floats, *, exclusive: bool) -> float:
    """The scale of the margins (one over the temperature) with the least log loss."""
    squash = softmax if exclusive else logistic

    def loss(log_scale: float) -> float:
        return log_loss(squash(margins * np.exp(log_scale)), truths, exclusive=exclusive)

    return float(np.exp(_minimum(loss, *np.log(_SCALES))))


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is least: golden section search (Kiefer 1953)."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > _TOLERANCE:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2.0


def expected_calibration_error(
    confidences: Floats, right: NDArray[np.bool_], *, bins: int = ECE_BINS
) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, weighted by their texts."""
    if not len(confidences):
        return 0.0
    which = np.minimum((confidences * bins).astype(int), bins - 1)
    differences = np.bincount(which, confidences - right, minlength=bins)
    return float(np.abs(differences).sum() / len(confidences))


def in_scope_scores(
    margins: Floats,
    familiarity: Floats,
    nearness: Floats | None = None,
    *,
    out_of_scope: int | None = None,
) -> Floats:
    """How far each text belongs to what was learned; shape (texts,).

    The largest margin, plus DOUBT_WEIGHT times how familiar the text looks, minus as many times the margin of
    the column `out_of_scope`, if a label stands for texts that belong nowhere; and where there are vectors,
    NEARNESS_WEIGHT times how near the text is to any other label. `Margins` says what each of these is.
    """
    trust = familiarity
    if out_of_scope is not None:
        trust = trust - margins[:, out_of_scope]
        margins = np.delete(margins, out_of_scope, axis=1)
        nearness = None if nearness is None else np.delete(nearness, out_of_scope, axis=1)
    scores: Floats = margins.max(axis=1, initial=-np.inf) + np.float32(DOUBT_WEIGHT) * trust
    if nearness is not None:
        scores += np.float32(NEARNESS_WEIGHT) * nearness.max(axis=1, initial=-1.0)
    return scores


def refusal_threshold(in_scope: Floats, *, false_alarm_rate: float) -> float:
    """The threshold below which at most this share of in-scope scores falls, by more than float noise."""
    if not 0.0 <= false_alarm_rate < 1.0:
        raise ValueError(f"false_alarm_rate is {false_alarm_rate}: it must be at least 0 and below 1")
    return float(np.sort(in_scope)[int(false_alarm_rate * len(in_scope))]) - _FLOAT_NOISE
