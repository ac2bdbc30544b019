"""The weights of a text classifier over sparse features, in two forms: one that learns, one that serves."""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from karen_learner.components.bucket_rows import NO_ROW
from karen_learner.components.design_matrix import DesignMatrix
from karen_learner.components.feature_rows import FeatureRows, RowOptions, ServedRows
from karen_learner.components.row_coding import require_names, require_shape
from karen_learner.components.text_counts import ServedCounts, TextCounts
from karen_learner.components.text_ngrams import VIEWS, WAITING, TextFeatures
from karen_learner.components.weight_forms import Step

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]

FIRST_BIAS = -1.0
"""Where the bias of a label begins: it says no, so that its negatives have nothing to teach it at first."""
SHRINKAGE = 3.0
"""How fast weights shrink towards zero: by this, times the learn rate, times the share of the texts learned
from that are new. At the usual learn rate that is 0.3 of the share."""
SMALLEST_FACTOR = 2.0**-10
"""A common factor below this is multiplied into the weights."""
_WAITS = np.isin(np.arange(VIEWS), WAITING)


@dataclass(frozen=True)
class Proposal:
    """What a batch would add: `buckets` that deserve a row, and those `unmet` before that wait for a second
    text, each with the fingerprint of the first one."""

    buckets: Ints
    unmet: Ints
    first_texts: NDArray[np.uint32]


@dataclass(frozen=True)
class ServedWeights:
    """What a pipeline needs for answering: weights of features and how rare they are, `bias` (labels,)."""

    rows: ServedRows
    counts: ServedCounts
    bias: Floats

    @property
    def labels(self) -> int:
        return len(self.bias)

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + self.counts.nbytes + self.bias.nbytes

    def margins(self, design: DesignMatrix) -> Floats:
        """How far each text is on the side of each label; shape (texts, labels)."""
        weights = self.rows.quantized.take(design.rows, axis=0).astype(np.float32)
        product = (design.values * self.rows.scales[design.rows]) @ weights
        return np.asarray(product + self.bias, dtype=np.float32)

    def digest(self) -> str:
        """Tells these weights from all others."""
        return self.rows.digest_with(self.bias, *self.counts.arrays().values())

    def arrays(self) -> Arrays:
        return {**self.rows.arrays(), **self.counts.arrays(), "bias": self.bias}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self:
        """Raises ValueError if the arrays do not belong together."""
        require_names(arrays, *ServedRows.NAMES, *ServedCounts.NAMES, "bias")
        bias = arrays["bias"]
        rows = ServedRows.from_arrays(bits, arrays, columns=len(bias))
        return cls(rows, ServedCounts.from_arrays(bits, arrays), bias)


class LearningWeights:
    """What learning needs: weights with AdaGrad's sums, in how many texts each feature was, and in which
    text those that wait were met first.

    A feature of a view that is WAITING gets its row when a second text has it. All weights of features have a
    common factor, `_factor`, which is kept apart from their rows: so they can shrink together at no cost.
    """

    def __init__(
        self,
        rows: FeatureRows,
        counts: TextCounts,
        *,
        bias: Floats,
        bias_squares: Floats,
        first_texts: NDArray[np.uint32],
        initial_square: float,
        factor: float = 1.0,
    ) -> None:
        self.rows = rows
        self.counts = counts
        self.bias = bias
        self._factor = factor
        self._bias_squares = bias_squares
        self._first_texts = first_texts
        self._initial_square = np.float32(initial_square)

    @classmethod
    def new(cls, options: RowOptions, labels: int) -> Self:
        """Weights that know nothing."""
        bias = np.full(labels, FIRST_BIAS, dtype=np.float32)
        return cls._fresh(options, FeatureRows.new(options, labels), TextCounts.new(options.bits), bias)

    @classmethod
    def _fresh(cls, options: RowOptions, rows: FeatureRows, counts: TextCounts, bias: Floats) -> Self:
        return cls(
            rows,
            counts,
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
        return self.rows.nbytes + self.counts.nbytes + self._first_texts.nbytes

    def add_labels(self, labels: int) -> None:
        """Make it so many labels. What was learned stays."""
        more = labels - len(self.bias)
        if more <= 0:
            return
        self.bias = np.concatenate([self.bias, np.full(more, FIRST_BIAS, dtype=np.float32)])
        self._bias_squares = np.concatenate([self._bias_squares, np.zeros(more, dtype=np.float32)])
        self.rows.widen(labels)

    def propose(self, features: TextFeatures) -> Proposal:
        """Which features deserve a row and have none, and which are to be noted. Changes nothing."""
        buckets = self.rows.table.buckets_of(features.hashes)
        waits = _WAITS[features.views]
        texts = (features.fingerprints >> np.uint64(32)).astype(np.uint32)[features.texts[waits]]
        texts |= np.uint32(1)  # 0 stands for no text
        notes, again = self._met_again(buckets[waits], texts)
        wanted = np.concatenate([buckets[~waits], again])
        return Proposal(np.unique(wanted[self.rows.table.look_up(wanted) == NO_ROW]), *notes)

    def _met_again(self, buckets: Ints, texts: NDArray[np.uint32]) -> tuple[tuple[Ints, Any], Ints]:
        """Those never met before, each with its first text; and those that another text has, too."""
        met = self._first_texts[buckets]
        blank = met == 0
        unmet, first, which = np.unique(buckets[blank], return_index=True, return_inverse=True)
        first_texts = texts[blank][first]
        met[blank] = first_texts[which]
        return (unmet, first_texts), buckets[met != texts]

    def note(self, proposal: Proposal, design: DesignMatrix, weights: Floats) -> None:
        """Remember in which text what waits was met first, and count the texts of each feature by their
        weights (texts,)."""
        self.counts.note(design.present, design.present_texts, weights)
        unmet = self._first_texts[proposal.unmet] == 0
        self._first_texts[proposal.unmet[unmet]] = proposal.first_texts[unmet]

    def margins(self, design: DesignMatrix) -> Floats:
        """How far each text is on the side of each label; shape (texts, labels)."""
        product: Floats = design.values @ self.rows.take(design.rows)
        return product * np.float32(self._factor) + self.bias

    def shrink(self, texts: float, *, learn_rate: float) -> None:
        """Let all weights of features shrink, because so many more `texts` were noted.

        That is L2 regularization whose rate falls with the texts that were learned from so far:

            Shalev-Shwartz, Singer, Srebro, Cotter: Pegasos, Mathematical Programming 127 (2011).

        What was learned from much is not forgotten for a little that is new.
        """
        if texts > 0.0:
            self._factor *= math.exp(-SHRINKAGE * learn_rate * texts / self.counts.texts)
        if self._factor < SMALLEST_FACTOR:
            self.rows.weights[:] *= np.float32(self._factor)
            self._factor = 1.0

    def step(self, step: Step, *, learn_rate: float) -> None:
        """Move weights of features, and the biases (the others), against their gradients."""
        self.rows.step(step.buckets, step.columns, step.gradient, learn_rate=learn_rate / self._factor)
        self._bias_squares += step.other * step.other
        moves = step.other / np.sqrt(self._bias_squares + self._initial_square)
        self.bias -= np.float32(learn_rate) * moves

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return self.rows.all_finite() and bool(np.isfinite(self.bias).all())

    def served(self) -> ServedWeights:
        """The same in the form that serves."""
        rows = self.rows.served()
        rows = replace(rows, scales=rows.scales * np.float32(self._factor))
        return ServedWeights(rows, self.counts.served(), self.bias.copy())

    def arrays(self) -> Arrays:
        return {
            **self.rows.arrays(),
            **self.counts.arrays(),
            "bias": self.bias,
            "bias_squares": self._bias_squares,
            "first_texts": self._first_texts,
            "factor": np.array([self._factor]),
        }

    @classmethod
    def from_arrays(cls, options: RowOptions, arrays: Arrays) -> Self:
        """Raises ValueError if the arrays do not belong together."""
        require_names(arrays, *FeatureRows.NAMES, *TextCounts.NAMES)
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
            TextCounts.from_arrays(options.bits, arrays),
            bias=arrays["bias"],
            bias_squares=arrays["bias_squares"],
            first_texts=arrays["first_texts"],
            initial_square=options.initial_square,
            factor=factor,
        )

    @classmethod
    def from_served(cls, options: RowOptions, served: ServedWeights) -> Self:
        """Where nothing but the served weights is left: they go on from there, with new sums of squares."""
        rows = FeatureRows.from_served(options, served.rows)
        return cls._fresh(options, rows, TextCounts.from_served(served.counts), served.bias.copy())
