"""Weights and document frequencies of a text classifier over sparse features, in a training and a serving
form.

The inverse document frequency of a feature in `d` of `n` texts is `1 + log((1 + n) / (1 + d))`. A power of
it is the rarity, which scales the values of the feature. Both forms round `log(1 + d)` to tenths, so that
they agree.

    Spärck Jones: A Statistical Interpretation of Term Specificity and its Application in Retrieval, Journal
    of Documentation 28 (1972).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from karen_learner.components.arrays import (
    AnyArray,
    Arrays,
    Floats,
    Ints,
    Places,
    require_names,
    require_shape,
)
from karen_learner.components.online.feature_rows import NO_ROW, FeatureRows, RowOptions, ServedRows, Step
from karen_learner.components.textcat.features import (
    DEFERRED_VIEWS,
    VIEWS,
    DesignMatrix,
    TextFeatures,
    coverage_of,
    design_matrix,
    squared_norms,
    view_factors,
)

FIRST_BIAS = -1.0
"""Initial bias of a label. Negatives of a new label then have no gradient."""
SHRINKAGE = 3.0
"""Rate of weight decay: this, times the learn rate, times the share of new texts."""
SMALLEST_FACTOR = 2.0**-10
"""Below this, the common factor is multiplied into the weights."""
LOG_STEPS = 10.0
"""Steps of a logarithmic count in one unit of the natural logarithm."""
_LOGARITHMS = np.arange(256) / LOG_STEPS
"""Natural logarithm of each logarithmic count."""
MAX_TEXTS = 2.0**22
"""Above this number of texts all counts are halved. Shares stay, and float32 still counts single texts."""
FORMER_POWER = 0.5
"""Power of the inverse document frequency in weights that do not store one."""
COUNTS, SERVED_COUNTS = "text_counts", "commonness"
"""Names of the counts in both forms, in saved weights."""
POWER = "rarity_power"
_DEFERRED = np.isin(np.arange(VIEWS), DEFERRED_VIEWS)


@dataclass
class DocumentFrequencies:
    """Document frequencies: `values` (buckets,) of `texts` texts.

    In training, the values are counts in float32. Each training step counts a text by its sample weight. In
    the serving form, they are `log(1 + count)` in tenths, as 8-bit integers. `power` of the inverse document
    frequency is the rarity.
    """

    values: AnyArray
    texts: float
    power: float = FORMER_POWER

    @classmethod
    def new(cls, bits: int) -> Self:
        """No text is counted: all features are equally rare."""
        return cls(np.zeros(1 << bits, dtype=np.float32), 0.0)

    def rarity(self, buckets: Ints | Places) -> Floats:
        """Rarity of the features in these buckets."""
        highest = 1.0 + math.log1p(self.texts)
        # Rounding can make a count larger than the number of texts.
        rarities: Floats = (np.maximum(highest - _LOGARITHMS, 1.0) ** self.power).astype(np.float32)
        return rarities[_log_counts(self.values[buckets])]

    def add(self, buckets: Ints, texts: Ints, weights: Floats) -> None:
        """Count texts by their sample weights (texts,): text `texts[i]` has `buckets[i]`."""
        np.add.at(self.values, buckets, weights[texts])
        self.texts += float(weights.sum())
        while self.texts > MAX_TEXTS:
            self.values *= np.float32(0.5)
            self.texts *= 0.5

    def served(self) -> Self:
        """The serving form."""
        return replace(self, values=_log_counts(self.values))

    def counted(self) -> Self:
        """The training form of served counts, with a relative error of at most 5 %."""
        return replace(self, values=np.rint(np.expm1(self.values / LOG_STEPS)).astype(np.float32))

    def arrays(self) -> Arrays:
        name = SERVED_COUNTS if self.values.dtype == np.uint8 else COUNTS
        arrays: Arrays = {name: self.values, "texts": np.array([self.texts])}
        return arrays if self.power == FORMER_POWER else {**arrays, POWER: np.array([self.power])}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays, name: str) -> Self:
        """The frequencies with the values of this name. Raises ValueError for arrays that do not fit."""
        require_names(arrays, name, "texts")
        require_shape(arrays[name], (1 << bits,), "counts of features")
        require_shape(arrays["texts"], (1,), "number of texts")
        power = arrays.get(POWER, np.array([FORMER_POWER]))
        require_shape(power, (1,), "power of the inverse document frequency")
        return cls(arrays[name], float(arrays["texts"][0]), float(power[0]))


def _log_counts(values: AnyArray) -> NDArray[np.uint8]:
    """`log(1 + count)` in tenths, of the values of either form."""
    if values.dtype == np.uint8:
        return values
    return np.rint(np.log1p(values) * np.float32(LOG_STEPS)).astype(np.uint8)


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
    frequencies: DocumentFrequencies
    bias: Floats

    @property
    def labels(self) -> int:
        return len(self.bias)

    def margins(self, features: TextFeatures) -> tuple[Floats, Floats]:
        """Margin of each label, shape (texts, labels); and the coverage of `design_matrix`.

        It has no matrix of all features: most of them belong to one text.
        """
        count, groups = len(features.lengths), features.groups
        values: Floats = features.values * self.frequencies.rarity(features.buckets)
        rows = self.rows.table.rows_of(features.buckets)
        known = np.flatnonzero(rows)
        ends = np.searchsorted(known, np.cumsum(features.lengths)).tolist()
        norms = squared_norms(groups, values, count)
        rows, groups, values = rows[known], groups[known], values[known]
        coverage = coverage_of(squared_norms(groups, values, count), norms)
        values = values * view_factors(norms)[groups] * self.rows.scales[rows]
        margins = np.empty((count, self.labels), dtype=np.float32)
        for text, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            weights = self.rows.quantized.take(rows[start:end], axis=0).astype(np.float32)
            np.matmul(values[start:end], weights, out=margins[text])
        margins += self.bias
        return margins, coverage

    def digest(self) -> str:
        """Digest of these weights."""
        return self.rows.digest_with(self.bias, *self.frequencies.arrays().values())

    def arrays(self) -> Arrays:
        return {**self.rows.arrays(), **self.frequencies.arrays(), "bias": self.bias}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self:
        """Raises ValueError for arrays that do not fit together."""
        require_names(arrays, "bias")
        bias = arrays["bias"]
        rows = ServedRows.from_arrays(bits, arrays, columns=len(bias))
        return cls(rows, DocumentFrequencies.from_arrays(bits, arrays, SERVED_COUNTS), bias)


@dataclass(eq=False)
class LearningWeights:
    """The training form: weights with AdaGrad's sums, document frequencies, and the first text of features.

    A feature of a deferred view gets its row with its second text. All weights of features share a `factor`,
    which is stored separately: so a decay of all weights is cheap.
    """

    rows: FeatureRows
    frequencies: DocumentFrequencies
    bias: Floats
    bias_squares: Floats
    first_texts: NDArray[np.uint32]
    factor: float = 1.0

    @classmethod
    def new(cls, options: RowOptions, labels: int) -> Self:
        """Untrained weights."""
        bias = np.full(labels, FIRST_BIAS, dtype=np.float32)
        rows, frequencies = FeatureRows.new(options, labels), DocumentFrequencies.new(options.bits)
        first_texts = np.zeros(1 << options.bits, dtype=np.uint32)
        return cls(rows, frequencies, bias, np.zeros_like(bias), first_texts)

    @property
    def labels(self) -> int:
        return len(self.bias)

    def add_labels(self, labels: int) -> None:
        """Grow to this number of labels. Existing weights stay."""
        added = labels - len(self.bias)
        if added <= 0:
            return
        self.bias = np.concatenate([self.bias, np.full(added, FIRST_BIAS, dtype=np.float32)])
        self.bias_squares = np.concatenate([self.bias_squares, np.zeros(added, dtype=np.float32)])
        self.rows.grow(0, labels)

    def new_features(self, features: TextFeatures) -> NewFeatures:
        """Features of the batch that need a row, or that `record` must remember."""
        buckets: Ints = features.buckets.astype(np.int64)
        deferred = _DEFERRED[features.views]
        texts = (features.fingerprints >> np.uint64(32)).astype(np.uint32)[features.texts[deferred]]
        texts |= np.uint32(1)  # 0 means no text
        unseen, first_texts, repeated = self._seen_before(buckets[deferred], texts)
        wanted = np.concatenate([buckets[~deferred], repeated])
        without_row = np.unique(wanted[self.rows.table.rows_of(wanted) == NO_ROW])
        return NewFeatures(without_row, unseen, first_texts)

    def _seen_before(self, buckets: Ints, texts: NDArray[np.uint32]) -> tuple[Ints, Any, Ints]:
        """Unseen buckets, the first text of each, and the buckets that another text has, too."""
        first_texts = self.first_texts[buckets]
        blank = first_texts == 0
        if not blank.any():  # the usual case after the first pass
            return buckets[:0], texts[:0], buckets[first_texts != texts]
        unseen, first, which = np.unique(buckets[blank], return_index=True, return_inverse=True)
        new_texts = texts[blank][first]
        first_texts[blank] = new_texts[which]
        return unseen, new_texts, buckets[first_texts != texts]

    def record(self, new: NewFeatures, design: DesignMatrix, weights: Floats) -> None:
        """Record the first texts of new features, and count the texts by sample weight (texts,)."""
        self.frequencies.add(design.present, design.present_texts, weights)
        unseen = self.first_texts[new.unseen] == 0
        self.first_texts[new.unseen[unseen]] = new.first_texts[unseen]

    def margins(self, features: TextFeatures) -> tuple[Floats, Floats]:
        """Margin of each label, shape (texts, labels); and the coverage of `design_matrix`."""
        design = design_matrix(features, self.rows.table, self.frequencies.rarity)
        return self.margins_of(design), design.coverage

    def margins_of(self, design: DesignMatrix) -> Floats:
        """Margin of each label; shape (texts, labels)."""
        product: Floats = design.values @ self.rows.take(design.rows)
        return product * np.float32(self.factor) + self.bias

    def shrink(self, texts: float, *, learn_rate: float) -> None:
        """Weight decay after this number of newly recorded texts.

        L2 regularization with a rate that falls with the number of texts, so that few new texts decay little:

            Shalev-Shwartz, Singer, Srebro, Cotter: Pegasos, Mathematical Programming 127 (2011).
        """
        if texts > 0.0:
            self.factor *= math.exp(-SHRINKAGE * learn_rate * texts / self.frequencies.texts)
        if self.factor < SMALLEST_FACTOR:
            self.rows.weights[:] *= np.float32(self.factor)
            self.factor = 1.0

    def step(self, step: Step, *, learn_rate: float) -> None:
        """One AdaGrad step on features and biases (`step.other`)."""
        self.rows.step_buckets(step, learn_rate=learn_rate / self.factor)
        self.bias_squares += step.other * step.other
        moves = step.other / np.sqrt(self.bias_squares + np.float32(self.rows.options.initial_square))
        self.bias -= np.float32(learn_rate) * moves

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return self.rows.all_finite() and bool(np.isfinite(self.bias).all())

    def served(self) -> ServedWeights:
        """The serving form."""
        rows = self.rows.served()
        rows = replace(rows, scales=rows.scales * np.float32(self.factor))
        return ServedWeights(rows, self.frequencies.served(), self.bias.copy())

    def arrays(self) -> Arrays:
        return {
            **self.rows.arrays(),
            **self.frequencies.arrays(),
            "bias": self.bias,
            "bias_squares": self.bias_squares,
            "first_texts": self.first_texts,
            "factor": np.array([self.factor]),
        }

    @classmethod
    def from_arrays(cls, options: RowOptions, arrays: Arrays) -> Self:
        """Raises ValueError for arrays that do not fit together."""
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
            DocumentFrequencies.from_arrays(options.bits, arrays, COUNTS),
            arrays["bias"],
            arrays["bias_squares"],
            arrays["first_texts"],
            factor,
        )

    @classmethod
    def from_served(cls, options: RowOptions, served: ServedWeights) -> Self:
        """The training form of served weights, with new sums of squares."""
        learning = cls.new(options, served.labels)
        learning.rows = FeatureRows.from_served(options, served.rows)
        learning.frequencies, learning.bias = served.frequencies.counted(), served.bias.copy()
        return learning
