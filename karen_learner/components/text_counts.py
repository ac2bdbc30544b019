"""In how many texts each feature occurred: what is rare says more about a text than what is everywhere.

    Spärck Jones: A Statistical Interpretation of Term Specificity and its Application in Retrieval, Journal
    of Documentation 28 (1972).

The inverse document frequency of a feature that occurred in `d` of `n` texts is `1 + log((1 + n) / (1 + d))`.
Its square root is what a feature is worth: on held-out data of several sets better than either none or all
of it. `log(1 + d)` is rounded to tenths, in the form that learns as in the one that serves: they agree.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from karen_learner.components.row_coding import require_shape

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]

STEPS = 10.0
"""Steps of commonness in one unit of the natural logarithm."""
MOST_TEXTS = 2.0**22
"""Beyond so many texts all counts are halved, as often as it takes: shares stay what they are, what is new
counts for more, and float32 goes on telling one more from none."""


class ServedCounts:
    """How common features are: `commonness` (shape (buckets,)) is `log(1 + d)`, in tenths, for `d` of so many
    `texts`."""

    NAMES = ("commonness", "texts")

    def __init__(self, commonness: NDArray[np.uint8], texts: float) -> None:
        self.commonness = commonness
        self.texts = texts

    @property
    def nbytes(self) -> int:
        return self.commonness.nbytes

    def rarity(self, buckets: Ints) -> Floats:
        """What the features in these buckets are worth."""
        return _rarity(self.commonness[buckets], self.texts)

    def arrays(self) -> Arrays:
        return {"commonness": self.commonness, "texts": np.array([self.texts])}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self:
        """Raises ValueError if the arrays do not belong together."""
        return cls(*_read(bits, arrays, "commonness"))


class TextCounts:
    """The counts themselves. A text counts as often as it is learned from, and as much as it counts there."""

    NAMES = ("text_counts", "texts")

    def __init__(self, counts: Floats, texts: float) -> None:
        self._counts = counts
        self._texts = texts

    @classmethod
    def new(cls, bits: int) -> Self:
        """No text was counted yet: all features are equally rare."""
        return cls(np.zeros(1 << bits, dtype=np.float32), 0.0)

    @property
    def texts(self) -> float:
        """How many texts were counted, by their weights."""
        return self._texts

    @property
    def nbytes(self) -> int:
        return self._counts.nbytes

    def note(self, buckets: Ints, texts: Ints, weights: Floats) -> None:
        """Count more texts, each by its weight (shape (texts,)): text `texts[i]` has `buckets[i]`."""
        np.add.at(self._counts, buckets, weights[texts])
        self._texts += float(weights.sum())
        while self._texts > MOST_TEXTS:
            self._counts *= np.float32(0.5)
            self._texts *= 0.5

    def rarity(self, buckets: Ints) -> Floats:
        """What the features in these buckets are worth."""
        return _rarity(_commonness(self._counts[buckets]), self._texts)

    def served(self) -> ServedCounts:
        """The same in the form that serves."""
        return ServedCounts(_commonness(self._counts), self._texts)

    def arrays(self) -> Arrays:
        return {"text_counts": self._counts, "texts": np.array([self._texts])}

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self:
        """Raises ValueError if the arrays do not belong together."""
        return cls(*_read(bits, arrays, "text_counts"))

    @classmethod
    def from_served(cls, served: ServedCounts) -> Self:
        """The counts that are left when only what serves is left: to within a twentieth."""
        counts = np.rint(np.expm1(served.commonness / STEPS))
        return cls(counts.astype(np.float32), served.texts)


def _read(bits: int, arrays: Arrays, name: str) -> tuple[NDArray[Any], float]:
    require_shape(arrays[name], (1 << bits,), "counts of features")
    require_shape(arrays["texts"], (1,), "number of texts")
    return arrays[name], float(arrays["texts"][0])


def _commonness(counts: Floats) -> NDArray[np.uint8]:
    return np.rint(np.log1p(counts) * np.float32(STEPS)).astype(np.uint8)


def _rarity(commonness: NDArray[np.uint8], texts: float) -> Floats:
    rarest = 1.0 + np.log1p(texts)
    # What is everywhere may have been rounded to more than everywhere.
    return np.asarray(np.sqrt(np.maximum(rarest - commonness / STEPS, 1.0)), dtype=np.float32)
