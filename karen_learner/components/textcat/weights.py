"""Weights and document frequencies of a text classifier over sparse features, in a training and a serving
form.

The inverse document frequency of a feature in `d` of `n` texts is `1 + log((1 + n) / (1 + d))`. A feature is
weighted by its square root, the rarity. Both forms round `log(1 + d)` to tenths, so that they agree.

    Spärck Jones: A Statistical Interpretation of Term Specificity and its Application in Retrieval, Journal
    of Documentation 28 (1972).
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from karen_learner.components.arrays import AnyArray, Arrays, Floats, Ints, require_names, require_shape
from karen_learner.components.online.feature_rows import NO_ROW, FeatureRows, RowOptions, ServedRows
from karen_learner.components.online.shim import Step
from karen_learner.components.textcat.features import DEFERRED_VIEWS, VIEWS, DesignMatrix, TextFeatures

FIRST_BIAS = -1.0
"""Initial bias of a label. Negatives of a new label then have no gradient."""
SHRINKAGE = 3.0
"""Rate of weight decay: this, times the learn rate, times the share of new texts."""
SMALLEST_FACTOR = 2.0**-10
"""Below this, the common factor is multiplied into the weights."""
LOG_STEPS = 10.0
"""Steps of a logarithmic count in one unit of the natural logarithm."""
MAX_TEXTS = 2.0**22
"""Above this number of texts all counts are halved. Shares stay, and float32 still counts single texts."""
_DEFERRED = np.isin(np.arange(VIEWS), DEFERRED_VIEWS)


class ServedFrequencies:
    """The serving form of document frequencies: `log_counts` (buckets,), in tenths, of `texts` texts."""

    NAMES = ("commonness", "texts")

    def __init__(self, log_counts: NDArray[np.uint8], texts: float) -> None:
        self.log_counts = log_counts
        self.texts = texts

    @property
    def nbytes(self) -> int:
        return self.log_counts.nbytes

    def rarity(self, buckets: Ints) -> Floats:
        """Rarity of the features in these buckets."""
        return _rarity(self.log_counts[buckets], self.texts)

    def arrays(self) -> Arrays:
        return {"commonness": self.log_counts, "texts": np.array([self.texts])}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self:
        """Raises ValueError for arrays that do not fit together."""
        return cls(*_frequencies_from(bits, arrays, "commonness"))


class DocumentFrequencies:
    """The training form of document frequencies. Each training step counts a text by its sample weight."""

    NAMES = ("text_counts", "texts")

    def __init__(self, counts: Floats, texts: float) -> None:
        self._counts = counts
        self._texts = texts

    @classmethod
    def new(cls, bits: int) -> Self:
        """No text is counted: all features are equally rare."""
        return cls(np.zeros(1 << bits, dtype=np.float32), 0.0)

    @property
    def texts(self) -> float:
        """Number of counted texts, by sample weight."""
        return self._texts

    @property
    def nbytes(self) -> int:
        return self._counts.nbytes

    def add(self, buckets: Ints, texts: Ints, weights: Floats) -> None:
        """Count texts by their sample weights (texts,): text `texts[i]` has `buckets[i]`."""
        np.add.at(self._counts, buckets, weights[texts])
        self._texts += float(weights.sum())
        while self._texts > MAX_TEXTS:
            self._counts *= np.float32(0.5)
            self._texts *= 0.5

    def rarity(self, buckets: Ints) -> Floats:
        """Rarity of the features in these buckets."""
        return _rarity(_log_counts(self._counts[buckets]), self._texts)

    def served(self) -> ServedFrequencies:
        """The serving form."""
        return ServedFrequencies(_log_counts(self._counts), self._texts)

    def arrays(self) -> Arrays:
        return {"text_counts": self._counts, "texts": np.array([self._texts])}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self:
        """Raises ValueError for arrays that do not fit together."""
        return cls(*_frequencies_from(bits, arrays, "text_counts"))

    @classmethod
    def from_served(cls, served: ServedFrequencies) -> Self:
        """The training form of served counts, with a relative error of at most 5 %."""
        counts = np.rint(np.expm1(served.log_counts / LOG_STEPS))
        return cls(counts.astype(np.float32), served.texts)


def _frequencies_from(bits: int, arrays: Arrays, name: str) -> tuple[AnyArray, float]:
    require_shape(arrays[name], (1 << bits,), "counts of features")
    require_shape(arrays["texts"], (1,), "number of texts")
    return arrays[name], float(arrays["texts"][0])


def _log_counts(counts: Floats) -> NDArray[np.uint8]:
    return np.rint(np.log1p(counts) * np.float32(LOG_STEPS)).astype(np.uint8)


def _rarity(log_counts: NDArray[np.uint8], texts: float) -> Floats:
    highest = 1.0 + np.log1p(texts)
    # Rounding can make a count larger than the number of texts.
    return np.asarray(np.sqrt(np.maximum(highest - log_counts / LOG_STEPS, 1.0)), dtype=np.float32)


@dataclass(frozen=True)
class NewFeatures:
    """Features of a batch without a row: `buckets` get one; `unseen` ones wait for a second text.

    `first_texts` has the fingerprint of the first text of each unseen bucket.
    """

    buckets: Ints
    unseen: Ints
    first_texts: NDArray[np.uint32]


@dataclass(frozen=True)
class ServedWeights:
    """The serving form: weights of features, document frequencies, and `bias` (labels,)."""

    rows: ServedRows
    frequencies: ServedFrequencies
    bias: Floats

    @property
    def labels(self) -> int:
        return len(self.bias)

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + self.frequencies.nbytes + self.bias.nbytes

    def margins(self, design: DesignMatrix) -> Floats:
        """Margin of each label; shape (texts, labels)."""
        weights = self.rows.quantized.take(design.rows, axis=0).astype(np.float32)
        product = (design.values * self.rows.scales[design.rows]) @ weights
        return np.asarray(product + self.bias, dtype=np.float32)

    def digest(self) -> str:
        """Digest of these weights."""
        return self.rows.digest_with(self.bias, *self.frequencies.arrays().values())

    def arrays(self) -> Arrays:
        return {**self.rows.arrays(), **self.frequencies.arrays(), "bias": self.bias}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self:
        """Raises ValueError for arrays that do not fit together."""
        require_names(arrays, *ServedRows.NAMES, *ServedFrequencies.NAMES, "bias")
        bias = arrays["bias"]
        rows = ServedRows.from_arrays(bits, arrays, columns=len(bias))
        return cls(rows, ServedFrequencies.from_arrays(bits, arrays), bias)


class LearningWeights:
    """The training form: weights with AdaGrad's sums, document frequencies, and the first text of features.

    A feature of a deferred view gets its row with its second text. All weights of features share a factor,
    which is stored separately: so a decay of all weights is cheap.
    """

    def __init__(
        self,
        rows: FeatureRows,
        frequencies: DocumentFrequencies,
        *,
        bias: Floats,
        bias_squares: Floats,
        first_texts: NDArray[np.uint32],
        initial_square: float,
        factor: float = 1.0,
    ) -> None:
        self.rows = rows
        self.frequencies = frequencies
        self.bias = bias
        self._factor = factor
        self._bias_squares = bias_squares
        self._first_texts = first_texts
        self._initial_square = np.float32(initial_square)

    @classmethod
    def new(cls, options: RowOptions, labels: int) -> Self:
        """Untrained weights."""
        bias = np.full(labels, FIRST_BIAS, dtype=np.float32)
        rows = FeatureRows.new(options, labels)
        return cls._with_new_squares(options, rows, DocumentFrequencies.new(options.bits), bias)

    @classmethod
    def _with_new_squares(
        cls, options: RowOptions, rows: FeatureRows, frequencies: DocumentFrequencies, bias: Floats
    ) -> Self:
        return cls(
            rows,
            frequencies,
            bias=bias,
            bias_squares=np.zeros_like(bias),
            first_texts=np.zeros(1 << options.bits, dtype=np.uint32),
            initial_square=options.initial_square,
        )

    @property
    def labels(self) -> int:
        return len(self.bias)

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + self.frequencies.nbytes + self._first_texts.nbytes

    def add_labels(self, labels: int) -> None:
        """Grow to this number of labels. Existing weights stay."""
        added = labels - len(self.bias)
        if added <= 0:
            return
        self.bias = np.concatenate([self.bias, np.full(added, FIRST_BIAS, dtype=np.float32)])
        self._bias_squares = np.concatenate([self._bias_squares, np.zeros(added, dtype=np.float32)])
        self.rows.widen(labels)

    def new_features(self, features: TextFeatures) -> NewFeatures:
        """Features of the batch that need a row, or that `record` must remember."""
        buckets = self.rows.table.buckets_of(features.hashes)
        deferred = _DEFERRED[features.views]
        texts = (features.fingerprints >> np.uint64(32)).astype(np.uint32)[features.texts[deferred]]
        texts |= np.uint32(1)  # 0 means no text
        unseen, first_texts, repeated = self._seen_before(buckets[deferred], texts)
        wanted = np.concatenate([buckets[~deferred], repeated])
        without_row = np.unique(wanted[self.rows.table.rows_of(wanted) == NO_ROW])
        return NewFeatures(without_row, unseen, first_texts)

    def _seen_before(self, buckets: Ints, texts: NDArray[np.uint32]) -> tuple[Ints, Any, Ints]:
        """Unseen buckets, the first text of each, and the buckets that another text has, too."""
        first_texts = self._first_texts[buckets]
        blank = first_texts == 0
        unseen, first, which = np.unique(buckets[blank], return_index=True, return_inverse=True)
        new_texts = texts[blank][first]
        first_texts[blank] = new_texts[which]
        return unseen, new_texts, buckets[first_texts != texts]

    def record(self, new: NewFeatures, design: DesignMatrix, weights: Floats) -> None:
        """Record the first texts of new features, and count the texts by sample weight (texts,)."""
        self.frequencies.add(design.present, design.present_texts, weights)
        unseen = self._first_texts[new.unseen] == 0
        self._first_texts[new.unseen[unseen]] = new.first_texts[unseen]

    def margins(self, design: DesignMatrix) -> Floats:
        """Margin of each label; shape (texts, labels)."""
        product: Floats = design.values @ self.rows.take(design.rows)
        return product * np.float32(self._factor) + self.bias

    def shrink(self, texts: float, *, learn_rate: float) -> None:
        """Weight decay after this number of newly recorded texts.

        It is L2 regularization whose rate falls with the number of texts, so that few new texts decay little:

            Shalev-Shwartz, Singer, Srebro, Cotter: Pegasos, Mathematical Programming 127 (2011).
        """
        if texts > 0.0:
            self._factor *= math.exp(-SHRINKAGE * learn_rate * texts / self.frequencies.texts)
        if self._factor < SMALLEST_FACTOR:
            self.rows.weights[:] *= np.float32(self._factor)
            self._factor = 1.0

    def step(self, step: Step, *, learn_rate: float) -> None:
        """One AdaGrad step on features and biases (`step.other`)."""
        self.rows.step(step.buckets, step.columns, step.gradient, learn_rate=learn_rate / self._factor)
        self._bias_squares += step.other * step.other
        moves = step.other / np.sqrt(self._bias_squares + self._initial_square)
        self.bias -= np.float32(learn_rate) * moves

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return self.rows.all_finite() and bool(np.isfinite(self.bias).all())

    def served(self) -> ServedWeights:
        """The serving form."""
        rows = self.rows.served()
        rows = replace(rows, scales=rows.scales * np.float32(self._factor))
        return ServedWeights(rows, self.frequencies.served(), self.bias.copy())

    def arrays(self) -> Arrays:
        return {
            **self.rows.arrays(),
            **self.frequencies.arrays(),
            "bias": self.bias,
            "bias_squares": self._bias_squares,
            "first_texts": self._first_texts,
            "factor": np.array([self._factor]),
        }

    @classmethod
    def from_arrays(cls, options: RowOptions, arrays: Arrays) -> Self:
        """Raises ValueError for arrays that do not fit together."""
        require_names(arrays, *FeatureRows.NAMES, *DocumentFrequencies.NAMES)
        require_names(arrays, "bias", "bias_squares", "first_texts", "factor")
        labels = len(arrays["bias"])
        rows = FeatureRows.from_arrays(options, arrays, columns=labels)
        require_shape(arrays["bias_squares"], (labels,), "sums of squares")
        require_shape(arrays["first_texts"], (1 << options.bits,), "first texts")
        require_shape(arrays["factor"], (1,), "common factor")
        factor = float(arrays["factor"][0])
        if not SMALLEST_FACTOR <= factor <= 1.0:
            raise ValueError(f"the common factor of the weights is {factor}: the file is damaged")
        return cls(
            rows,
            DocumentFrequencies.from_arrays(options.bits, arrays),
            bias=arrays["bias"],
            bias_squares=arrays["bias_squares"],
            first_texts=arrays["first_texts"],
            initial_square=options.initial_square,
            factor=factor,
        )

    @classmethod
    def from_served(cls, options: RowOptions, served: ServedWeights) -> Self:
        """The training form of served weights, with new sums of squares."""
        rows = FeatureRows.from_served(options, served.rows)
        frequencies = DocumentFrequencies.from_served(served.frequencies)
        return cls._with_new_squares(options, rows, frequencies, served.bias.copy())
