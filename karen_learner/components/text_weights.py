"""The weights of a text classifier over sparse features, in two forms: one that learns, one that serves."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from karen_learner.components.bucket_rows import NO_ROW, BucketRows
from karen_learner.components.design_matrix import DesignMatrix
from karen_learner.components.row_coding import quantize
from karen_learner.components.sparse_rows import SparseRows
from karen_learner.components.text_ngrams import PAIRS, TextFeatures

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]

FIRST_BIAS = -1.0
"""Where the bias of a label begins: it says no, so that its negatives have nothing to teach it at first."""
EVICTED_SHARE = 0.25
"""The share of rows, those with the smallest weights, that make room when the table is full."""


@dataclass(frozen=True)
class Proposal:
    """What a batch would add: `buckets` that deserve a row, and the pairs `unmet` before, each with the
    fingerprint of the text that has it."""

    buckets: Ints
    unmet: Ints
    first_texts: NDArray[np.uint32]


@dataclass(frozen=True)
class ServedWeights:
    """What a pipeline needs for answering: eight bits a weight, a scale a row.

    `quantized` has shape (rows, labels), `scales` (rows,), `bias` (labels,).
    """

    table: BucketRows
    quantized: NDArray[np.int8]
    scales: Floats
    bias: Floats

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.quantized.nbytes + self.scales.nbytes + self.bias.nbytes

    def margins(self, design: DesignMatrix) -> Floats:
        """How far each text is on the side of each label; shape (texts, labels)."""
        weights = self.quantized.take(design.rows, axis=0).astype(np.float32)
        product = (design.values * self.scales[design.rows]) @ weights
        return np.asarray(product + self.bias, dtype=np.float32)

    def digest(self) -> str:
        """Tells these weights from all others."""
        total = hashlib.blake2b(digest_size=16)
        for array in (self.table.buckets, self.quantized, self.scales, self.bias):
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()

    def arrays(self) -> Arrays:
        buckets = self.table.buckets.astype(np.uint32)
        return {"buckets": buckets, "quantized": self.quantized, "scales": self.scales, "bias": self.bias}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self:
        """Raises ValueError if the arrays do not belong together."""
        _require_names(arrays, "buckets", "quantized", "scales", "bias")
        rows, labels = len(arrays["buckets"]) + 1, len(arrays["bias"])
        _require(arrays["quantized"], (rows, labels), "weights")
        _require(arrays["scales"], (rows,), "scales")
        table = BucketRows.from_buckets(bits, arrays["buckets"].astype(np.int64))
        return cls(table, arrays["quantized"], arrays["scales"], arrays["bias"])


class LearningWeights:
    """What learning needs: float32 weights, AdaGrad's sums, and which pairs were seen in one text only.

    A feature gets its row when it is first learned from; a pair of words when a second text has it, since
    most pairs never come again. At `max_rows` the rows with the smallest weights make room.
    """

    def __init__(
        self,
        table: BucketRows,
        rows: SparseRows,
        *,
        bias: Floats,
        bias_squares: Floats,
        first_texts: NDArray[np.uint32],
        initial_square: float,
        max_rows: int,
    ) -> None:
        self.table = table
        self.rows = rows
        self.bias = bias
        self._bias_squares = bias_squares
        self._first_texts = first_texts
        self._initial_square = np.float32(initial_square)
        self._max_rows = max_rows

    @classmethod
    def new(cls, bits: int, labels: int, *, initial_square: float, max_rows: int) -> Self:
        """Weights that know nothing."""
        return cls(
            BucketRows(bits),
            SparseRows(1, labels, initial_square=initial_square),
            bias=np.full(labels, FIRST_BIAS, dtype=np.float32),
            bias_squares=np.zeros(labels, dtype=np.float32),
            first_texts=np.zeros(1 << bits, dtype=np.uint32),
            initial_square=initial_square,
            max_rows=max_rows,
        )

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.rows.nbytes + self._first_texts.nbytes

    def add_labels(self, labels: int) -> None:
        """Make it so many labels. What was learned stays."""
        more = labels - len(self.bias)
        if more <= 0:
            return
        self.bias = np.concatenate([self.bias, np.full(more, FIRST_BIAS, dtype=np.float32)])
        self._bias_squares = np.concatenate([self._bias_squares, np.zeros(more, dtype=np.float32)])
        self.rows.grow(len(self.table), labels)

    def propose(self, features: TextFeatures) -> Proposal:
        """Which features deserve a row and have none, and which pairs are to be noted. Changes nothing."""
        buckets = self.table.buckets_of(features.hashes)
        pairs = features.views == PAIRS
        texts = (features.fingerprints >> np.uint64(32)).astype(np.uint32)[features.texts[pairs]]
        texts |= np.uint32(1)  # 0 stands for no text
        notes, again = self._look_at_pairs(buckets[pairs], texts)
        wanted = np.concatenate([buckets[~pairs], again])
        return Proposal(np.unique(wanted[self.table.look_up(wanted) == NO_ROW]), *notes)

    def _look_at_pairs(self, pairs: Ints, texts: NDArray[np.uint32]) -> tuple[tuple[Ints, Any], Ints]:
        """The pairs never met before, each with its first text; and those that another text has, too."""
        met = self._first_texts[pairs]
        blank = met == 0
        unmet, first, which = np.unique(pairs[blank], return_index=True, return_inverse=True)
        first_texts = texts[blank][first]
        met[blank] = first_texts[which]
        return (unmet, first_texts), pairs[met != texts]

    def note(self, proposal: Proposal) -> None:
        """Remember in which text the pairs were met first."""
        unmet = self._first_texts[proposal.unmet] == 0
        self._first_texts[proposal.unmet[unmet]] = proposal.first_texts[unmet]

    def _make_room(self) -> None:
        """Drop the rows with the smallest weights, unless that has been done recently."""
        fullness = len(self.table) - 1
        if fullness <= (1.0 - EVICTED_SHARE) * self._max_rows:
            return
        sizes = np.abs(self.rows.weights[1 : len(self.table)]).max(axis=1, initial=0.0)
        kept = np.sort(np.argsort(sizes, kind="stable")[int(EVICTED_SHARE * fullness) :]) + 1
        self.table.keep(kept)
        self.rows.keep(kept)

    def margins(self, design: DesignMatrix) -> Floats:
        """How far each text is on the side of each label; shape (texts, labels)."""
        product: Floats = design.values @ self.rows.take(design.rows)
        return product + self.bias

    def step(self, buckets: Ints, gradient: Floats, bias_gradient: Floats, *, learn_rate: float) -> None:
        """Move the weights of these features (each once) and the biases against their gradients.

        Features that have no row get one.
        """
        if len(self.table) + int((self.table.look_up(buckets) == NO_ROW).sum()) > self._max_rows:
            self._make_room()
        self.table.allot(buckets, limit=self._max_rows)
        self.rows.grow(len(self.table), len(self.bias))
        rows = self.table.look_up(buckets)
        there = rows != NO_ROW
        if not there.all():
            rows, gradient = rows[there], gradient[there]
        self.rows.step(rows, gradient, learn_rate=learn_rate)
        self._bias_squares += bias_gradient * bias_gradient
        moves = bias_gradient / np.sqrt(self._bias_squares + self._initial_square)
        self.bias -= np.float32(learn_rate) * moves

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return bool(np.isfinite(self.rows.weights.sum(dtype=np.float64)) and np.isfinite(self.bias).all())

    def served(self) -> ServedWeights:
        """The same in the form that serves. Rows that have learned nothing are left out."""
        weights = self.rows.weights[: len(self.table)]
        kept = np.flatnonzero(weights.any(axis=1))
        table = BucketRows.from_buckets(self.table.bits, self.table.buckets[kept - 1])
        quantized, scales = quantize(np.concatenate([np.zeros_like(weights[:1]), weights[kept]]))
        return ServedWeights(table, quantized, scales, self.bias.copy())

    def arrays(self) -> Arrays:
        used = len(self.table)
        return {
            "buckets": self.table.buckets.astype(np.uint32),
            "weights": self.rows.weights[:used],
            "squares": self.rows.squares[:used],
            "bias": self.bias,
            "bias_squares": self._bias_squares,
            "first_texts": self._first_texts,
        }

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays, *, initial_square: float, max_rows: int) -> Self:
        """Raises ValueError if the arrays do not belong together."""
        _require_names(arrays, "buckets", "weights", "squares", "bias", "bias_squares", "first_texts")
        labels = len(arrays["bias"])
        _require(arrays["weights"], (len(arrays["buckets"]) + 1, labels), "weights")
        _require(arrays["bias_squares"], (labels,), "sums of squares")
        _require(arrays["first_texts"], (1 << bits,), "pairs")
        return cls(
            BucketRows.from_buckets(bits, arrays["buckets"].astype(np.int64)),
            SparseRows.from_arrays(arrays["weights"], arrays["squares"], initial_square=initial_square),
            bias=arrays["bias"],
            bias_squares=arrays["bias_squares"],
            first_texts=arrays["first_texts"],
            initial_square=initial_square,
            max_rows=max_rows,
        )

    @classmethod
    def from_served(cls, served: ServedWeights, *, initial_square: float, max_rows: int) -> Self:
        """Where nothing but the served weights is left: they go on from there, with new sums of squares."""
        bits = served.table.bits
        weights = served.quantized.astype(np.float32) * served.scales[:, None]
        return cls(
            BucketRows.from_buckets(bits, served.table.buckets),
            SparseRows.from_arrays(weights, np.zeros_like(weights), initial_square=initial_square),
            bias=served.bias.copy(),
            bias_squares=np.zeros_like(served.bias),
            first_texts=np.zeros(1 << bits, dtype=np.uint32),
            initial_square=initial_square,
            max_rows=max_rows,
        )


def _require_names(arrays: Arrays, *names: str) -> None:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"the weights lack {', '.join(missing)}: the file is damaged, or of something else")


def _require(array: NDArray[Any], shape: tuple[int, ...], what: str) -> None:
    if array.shape != shape:
        raise ValueError(f"the {what} have the shape {array.shape}, not {shape}: the file is damaged")
