"""Calibrated probabilities and the out-of-scope decision, fitted to the margins of held-out texts.

    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017 (temperature scaling,
    expected calibration error).
    Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: Distribution-Free Predictive Inference for Regression, JASA
    113 (2018) (split conformal: the threshold).

Pure functions over arrays. The model of a text's margins must not have learned the text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from karen_learner.components.arrays import AnyArray, Mask
from karen_learner.components.textcat.margins import Margins

MARGIN_SCALE = 4.0
"""Scale of the margins before a calibration."""
ECE_BINS = 15
CONFIDENCE_BINS = 10
MIN_BIN_TEXTS = 20
MIN_SCOPE_LABELS = 10
"""With fewer labels, a text without its own label gets a high probability of another one."""
_LOW_CONFIDENCES = (0.05, 0.1)
"""Limits of further bins: texts without their own label are frequent there."""
COVERAGE_WEIGHT = 0.75
"""Weight of the n-gram coverage, and of the negative margin of the out-of-scope label, in the in-scope
score."""
SIMILARITY_WEIGHT = 1.5
"""Weight of the centroid similarity in the in-scope score."""
_FLOAT_NOISE = 1e-4
"""Difference between the scores of a text in different batches."""
_RANK_NOISE = 1e-9
"""Float error of a rate times a number of texts: 0.29 x 100 must give 29."""
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
_SCALES = (1e-2, 1e2)
_TOLERANCE = 1e-3
_SMALLEST = 1e-12


class ConfidenceBin(NamedTuple):
    """In-scope texts with neighbouring confidences, up to `most`: their number, and that of right answers."""

    most: float
    texts: int
    right: int


class ScopeBin(NamedTuple):
    """Held-out texts with neighbouring confidences, up to `most`: with all labels, and without their own.

    A text without its own label stands for a text of an unknown label.
    """

    most: float
    known: int
    foreign: int


@dataclass(frozen=True)
class Calibration:
    """Fitted values for one state of the weights.

    Margins times `scale` go through softmax (or the logistic function). A text is out of scope if its
    in-scope score is below `threshold`; None means never. `false_alarm_rate` is the requested rate, also
    without a threshold. `bins` tell how often answers of exclusive labels are right, by confidence.
    `scope_bins` compare the confidences of known labels with those of unknown ones.
    """

    scale: float
    threshold: float | None = None
    false_alarm_rate: float | None = None
    out_of_scope_label: str | None = None
    bins: tuple[ConfidenceBin, ...] = ()
    scope_bins: tuple[ScopeBin, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """The values for JSON. Numbers are strings, because spaCy's JSON rounds floats."""
        return {
            "scale": repr(self.scale),
            "threshold": None if self.threshold is None else repr(self.threshold),
            **_weights_of_scores(),
            "false_alarm_rate": None if self.false_alarm_rate is None else repr(self.false_alarm_rate),
            "out_of_scope_label": self.out_of_scope_label,
            "bins": [[repr(one.most), one.texts, one.right] for one in self.bins],
            "scope_bins": [[repr(one.most), one.known, one.foreign] for one in self.scope_bins],
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Calibration":
        """The values of `as_record`. A threshold for scores with other weights is dropped."""
        same = all(record.get(name) == weight for name, weight in _weights_of_scores().items())
        threshold, rate = (record["threshold"], record["false_alarm_rate"]) if same else (None, None)
        return cls(
            scale=float(record["scale"]),
            threshold=None if threshold is None else float(threshold),
            false_alarm_rate=None if rate is None else float(rate),
            out_of_scope_label=record["out_of_scope_label"],
            bins=tuple(ConfidenceBin(float(most), *rest) for most, *rest in record.get("bins", ())),
            scope_bins=tuple(ScopeBin(float(most), *rest) for most, *rest in record.get("scope_bins", ())),
        )


def _weights_of_scores() -> dict[str, str]:
    """Weights of the in-scope score, under the names in saved pipes."""
    return {"doubt_weight": repr(COVERAGE_WEIGHT), "nearness_weight": repr(SIMILARITY_WEIGHT)}


@dataclass(frozen=True)
class CalibrationReport:
    """Effect of a calibration on the examples that it was fitted to.

    `ece_*` (expected calibration error) and `log_loss_*` are before and after. `false_alarms` is the share of
    in-scope examples below the threshold, `out_of_scope_recall` that of out-of-scope examples; None without
    any, and without a threshold.
    """

    calibration: Calibration
    examples: int
    ece_before: float
    ece_after: float
    log_loss_before: float
    log_loss_after: float
    false_alarms: float | None
    out_of_scope_recall: float | None


def fit_calibration(
    margins: Margins,
    truths: AnyArray,
    *,
    exclusive: bool,
    uncalibrated_scale: float,
    false_alarm_rate: float | None,
    out_of_scope: tuple[str, int] | None,
) -> CalibrationReport:
    """The calibration for these margins and truths, and its effect.

    `truths` (texts, labels): 1.0 and 0.0, NaN for unknown ones. `out_of_scope` are name and column of the
    out-of-scope label. There is no threshold without `false_alarm_rate`, or with too few in-scope texts for
    it (see `out_of_scope_threshold`). Texts of a model that lacks the out-of-scope label set no threshold.
    """
    label, column = out_of_scope or (None, None)
    scale = fit_scale(margins.margins, truths, exclusive=exclusive)
    scores = in_scope_scores(margins, out_of_scope=column)
    outside = np.zeros(len(truths), dtype=bool) if column is None else truths[:, column] == 1.0
    inside = ~outside if column is None else ~outside & np.isfinite(margins.margins[:, column])
    threshold = None
    if false_alarm_rate is not None:
        threshold = out_of_scope_threshold(scores[inside], false_alarm_rate=false_alarm_rate)
    before, after = (
        probabilities(margins.margins, one, exclusive=exclusive) for one in (uncalibrated_scale, scale)
    )
    bins = confidence_bins(after, truths, scores, threshold) if exclusive else ()
    scope = scope_bins(margins.margins[inside], truths[inside], scale) if exclusive else ()
    return CalibrationReport(
        calibration=Calibration(scale, threshold, false_alarm_rate, label, bins, scope),
        examples=len(truths),
        ece_before=_label_calibration_error(before, truths, exclusive=exclusive),
        ece_after=_label_calibration_error(after, truths, exclusive=exclusive),
        log_loss_before=log_loss(before, truths, exclusive=exclusive),
        log_loss_after=log_loss(after, truths, exclusive=exclusive),
        false_alarms=_share_below(scores[inside], threshold),
        out_of_scope_recall=_share_below(scores[outside], threshold),
    )


def confidence_bins(
    shares: AnyArray, truths: AnyArray, scores: AnyArray, threshold: float | None
) -> tuple[ConfidenceBin, ...]:
    """In-scope texts in up to `CONFIDENCE_BINS` bins of as many texts each, by their highest probability.

    None with fewer than `MIN_BIN_TEXTS` in-scope texts.
    """
    inside = np.ones(len(scores), dtype=bool) if threshold is None else scores >= threshold
    right = truths[np.arange(len(truths)), shares.argmax(axis=1)] == 1.0
    order = np.argsort(shares.max(axis=1)[inside], kind="stable")
    confidences, hits = shares.max(axis=1)[inside][order], right[inside][order]
    count = min(CONFIDENCE_BINS, len(order) // MIN_BIN_TEXTS)
    parts = np.array_split(np.arange(len(order)), count) if count else []
    return tuple(ConfidenceBin(float(confidences[one[-1]]), len(one), int(hits[one].sum())) for one in parts)


def scope_bins(margins: AnyArray, truths: AnyArray, scale: float) -> tuple[ScopeBin, ...]:
    """Texts of known labels by their highest probability, and the same texts without their own labels.

    None with fewer than `MIN_BIN_TEXTS` texts for each of `CONFIDENCE_BINS`, or `MIN_SCOPE_LABELS` labels.
    """
    if len(margins) < CONFIDENCE_BINS * MIN_BIN_TEXTS or margins.shape[1] < MIN_SCOPE_LABELS:
        return ()
    without = np.where(truths == 1.0, -np.inf, margins)
    known, foreign = (
        probabilities(one, scale, exclusive=True).max(axis=1).astype(np.float64) for one in (margins, without)
    )
    inner = np.linspace(0.0, 1.0, CONFIDENCE_BINS + 1)[1:-1]
    limits = np.unique([*_LOW_CONFIDENCES, *np.quantile(known, inner)])
    counts = [
        np.bincount(np.searchsorted(limits, one), minlength=len(limits) + 1) for one in (known, foreign)
    ]
    return tuple(
        ScopeBin(float(most), int(a), int(b)) for most, a, b in zip([*limits, 1.0], *counts, strict=True)
    )


def _share_below(scores: AnyArray, threshold: float | None) -> float | None:
    return None if threshold is None or not len(scores) else float((scores < threshold).mean())


def _label_calibration_error(scores: AnyArray, truths: AnyArray, *, exclusive: bool) -> float:
    if not exclusive:
        known = ~np.isnan(truths)
        return expected_calibration_error(scores[known], truths[known] == 1.0)
    right = truths[np.arange(len(truths)), scores.argmax(axis=1)] == 1.0
    return expected_calibration_error(scores.max(axis=1), right)


def probabilities(margins: AnyArray, scale: float, *, exclusive: bool) -> AnyArray:
    """Probabilities of the labels: softmax of scaled margins if they are exclusive, else the logistic
    function."""
    result = (softmax if exclusive else logistic)(margins * np.float32(scale))
    return result.astype(np.float32, copy=False)


def softmax(margins: AnyArray) -> AnyArray:
    """Probabilities of exclusive labels; shape (texts, labels)."""
    powers = np.exp(margins - margins.max(axis=1, keepdims=True, initial=-np.inf))
    result: AnyArray = powers / powers.sum(axis=1, keepdims=True)
    return result


def logistic(margins: AnyArray) -> AnyArray:
    """Probability of each label separately; shape (texts, labels)."""
    result: AnyArray = 1.0 / (1.0 + np.exp(-np.clip(margins, -60.0, 60.0)))
    return result


def log_loss(scores: AnyArray, truths: AnyArray, *, exclusive: bool) -> float:
    """Mean negative log-likelihood of a text. `truths` are 1.0 and 0.0, NaN for unknown ones."""
    likelihood = np.log(np.maximum(np.where(truths == 1.0, scores, 1.0), _SMALLEST))
    if not exclusive:
        likelihood = likelihood + np.log(np.maximum(np.where(truths == 0.0, 1.0 - scores, 1.0), _SMALLEST))
    return float(-likelihood.sum(axis=1).mean())


def fit_scale(margins: AnyArray, truths: AnyArray, *, exclusive: bool) -> float:
    """Scale of the margins (inverse temperature) with the lowest log loss."""
    to_probabilities = softmax if exclusive else logistic

    def loss(log_scale: float) -> float:
        return log_loss(to_probabilities(margins * np.exp(log_scale)), truths, exclusive=exclusive)

    return float(np.exp(_minimum(loss, *np.log(_SCALES))))


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Minimum of a unimodal function: golden-section search (Kiefer 1953)."""
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


def expected_calibration_error(confidences: AnyArray, right: Mask, *, bins: int = ECE_BINS) -> float:
    """Mean distance of confidence and accuracy over bins of equal width, weighted by their texts."""
    if not len(confidences):
        return 0.0
    which = np.minimum((confidences * bins).astype(int), bins - 1)
    differences = np.bincount(which, confidences - right, minlength=bins)
    return float(np.abs(differences).sum() / len(confidences))


def in_scope_scores(margins: Margins, *, out_of_scope: int | None = None) -> AnyArray:
    """In-scope score: max margin + 0.75 x n-gram coverage + 1.5 x max centroid similarity; shape (texts,).

    `out_of_scope` is the column of the out-of-scope label, if there is one. Its margin then enters like a
    negative coverage, and the maxima are those of the other labels.
    """
    evidence, values, similarity = margins.ngram_coverage, margins.margins, margins.centroid_similarity
    if out_of_scope is not None:
        evidence = evidence - values[:, out_of_scope]
        values = np.delete(values, out_of_scope, axis=1)
        similarity = None if similarity is None else np.delete(similarity, out_of_scope, axis=1)
    scores: AnyArray = values.max(axis=1, initial=-np.inf) + np.float32(COVERAGE_WEIGHT) * evidence
    if similarity is not None:
        scores += np.float32(SIMILARITY_WEIGHT) * similarity.max(axis=1, initial=-1.0)
    return scores


def out_of_scope_threshold(in_scope: AnyArray, *, false_alarm_rate: float) -> float | None:
    """Threshold below which at most this share of new in-scope scores is expected.

    It is the k-th smallest of n scores, with k = floor(rate x (n + 1)). A margin for float noise is
    subtracted. A new score is below the k-th smallest of n exchangeable scores with probability k / (n + 1).
    None if k is 0, that is for n < 1 / rate - 1. Raises ValueError for a rate outside 0 to 1.
    """
    if not 0.0 <= false_alarm_rate < 1.0:
        raise ValueError(f"false_alarm_rate is {false_alarm_rate}: it must be at least 0 and below 1")
    rank = int(false_alarm_rate * (len(in_scope) + 1) + _RANK_NOISE)
    return float(np.sort(in_scope)[rank - 1]) - _FLOAT_NOISE if rank else None
