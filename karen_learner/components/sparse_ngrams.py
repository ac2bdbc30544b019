"""`karen_learner.SparseNgrams.v1`: a linear text classifier over hashed n-grams that learns on the fly.

Features are words and pairs of neighbouring words, character n-grams within words, and unordered pairs of
words (see `text_ngrams`). Each label has a separating plane of its own, trained with squared hinge loss:

    Rifkin, Klautau: In Defense of One-Vs-All Classification, JMLR 5 (2004).

The weights are no parameters of thinc's: they live in a `Shim`, which applies AdaGrad to the rows of the
features present (see `sparse_rows`). The optimizer that spaCy hands over only says *when* to step: its own
rule would move every weight of every row. Dropout is not applied: it gained nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc
from thinc.api import Model
from thinc.shims import Shim
from thinc.types import Floats2d

from karen_learner.components.calibration import logistic, softmax
from karen_learner.components.design_matrix import DesignMatrix, design_matrix
from karen_learner.components.learning_state import LearningState
from karen_learner.components.row_coding import pack, unpack
from karen_learner.components.text_ngrams import PAIRS, WORDS, TextNgrams
from karen_learner.components.text_weights import LearningWeights, Proposal, ServedWeights
from karen_learner.components.vectors import SentenceVectors
from karen_learner.errors import ModelError

Floats = NDArray[np.float32]
Step = tuple[NDArray[np.int64], Floats, Floats]

TEXTS_AT_ONCE = 32
"""Larger batches are read in parts: the matrix of a part should stay in the processor's cache."""
INITIAL_SQUARE = 0.3
"""What AdaGrad's sums begin with: the first steps of a weight are proportional to its gradient."""
MARGIN_SCALE = 4.0
"""Margins times this go through softmax or the logistic function, until a pipe is calibrated."""
_SERVED, _LEARNING = b"S", b"L"
WITH_VECTORS = b"V"
"""What begins so comes from a classifier that is joined with vectors; see `dense_ngrams`."""


@dataclass(frozen=True)
class Margins:
    """What the classifier makes of a batch.

    `margins` (shape (texts, labels)): above 0 the text is on the side of the label. `familiarity` (shape
    (texts,)): how far a text consists of words and pairs that were learned from, from 0 to 1.
    """

    margins: Floats
    familiarity: Floats


@dataclass(frozen=True)
class SparseNgramsConfig:
    """The choices that make the classifier; see `sparse_ngrams`."""

    exclusive_classes: bool
    learn_rate: float
    char_sizes: tuple[int, ...]
    max_words: int
    pair_words: int
    table_bits: int
    max_rows: int


class SparseNgramsShim(Shim):
    """The classifier: its features, its weights, and the gradients that wait for `finish_update`."""

    def __init__(self, config: SparseNgramsConfig) -> None:
        super().__init__(None)
        self.config = config
        self.learn_rate_scale = 1.0
        self._features = TextNgrams(
            char_sizes=config.char_sizes, max_words=config.max_words, pair_words=config.pair_words
        )
        self._learning: LearningWeights | None = self._new_weights(0)
        self._served: ServedWeights | None = None
        self._exported: ServedWeights | None = None
        self._state: LearningState | None = None
        self._pending: list[tuple[DesignMatrix, Proposal, Floats]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "SparseNgramsShim":
        return SparseNgramsShim(self.config).from_bytes(self.to_bytes())

    @property
    def labels(self) -> int:
        """How many labels there are."""
        return len(self._weights.bias)

    @property
    def rows(self) -> int:
        """How many features have weights."""
        return len(self._weights.table) - 1

    @property
    def is_learning(self) -> bool:
        """Whether the state for learning is in memory; a model loaded for serving leaves it on the disk."""
        return self._learning is not None

    @property
    def nbytes(self) -> int:
        """Bytes of weights in memory, of whatever form they are in."""
        return self._weights.nbytes

    def margins(self, docs: Sequence[Doc]) -> Margins:
        """What the classifier makes of the documents. Changes nothing."""
        parts = [self._margins_of_part(part) for part in _parts(docs)]
        return Margins(
            np.concatenate(
                [part.margins for part in parts] or [np.zeros((0, self.labels), dtype=np.float32)]
            ),
            np.concatenate([part.familiarity for part in parts] or [np.zeros(0, dtype=np.float32)]),
        )

    def _margins_of_part(self, docs: Sequence[Doc]) -> Margins:
        weights = self._weights
        design = design_matrix(self._features(docs), weights.table)
        familiarity = design.coverage[:, [WORDS, PAIRS]].mean(axis=1)
        return Margins(weights.margins(design), familiarity)

    def begin_learning(self, docs: Sequence[Doc]) -> tuple[Floats, Callable[[Floats], None]]:
        """The margins, and a function that takes their gradient and keeps it until `finish_update`."""
        learning, parts = self.learning_weights(), _parts(docs)
        read = [self._read_for_learning(learning, part) for part in parts]
        margins = np.concatenate([learning.margins(design) for design, _ in read])

        def backprop(gradient: Floats) -> None:
            ends = np.cumsum([len(part) for part in parts])
            for (design, proposal), end, part in zip(read, ends, parts, strict=True):
                self._pending.append((design, proposal, gradient[end - len(part) : end]))

        return margins, backprop

    def _read_for_learning(
        self, learning: LearningWeights, docs: Sequence[Doc]
    ) -> tuple[DesignMatrix, Proposal]:
        features = self._features(docs)
        proposal = learning.propose(features)
        return design_matrix(features, learning.table, new=proposal.buckets), proposal

    def finish_update(self, optimizer: Any) -> None:  # noqa: ARG002 - it is not asked how to step
        """Apply the gradients that wait, at this classifier's own learn rate."""
        pending, self._pending = self._pending, []
        for _, proposal, _ in pending:
            self.learning_weights().note(proposal)
        steps = [step for design, _, gradient in pending if (step := _weight_gradient(design, gradient))]
        if steps:
            buckets, gradient, bias = _summed(steps)
            rate = self.config.learn_rate * self.learn_rate_scale
            self.learning_weights().step(buckets, gradient, bias, learn_rate=rate)

    def discard_gradients(self) -> None:
        """Forget what waits for `finish_update`."""
        self._pending = []

    def all_finite(self) -> bool:
        """Whether no weight that learns is NaN or infinite."""
        return self._learning is None or self._learning.all_finite()

    def reset(self, labels: int) -> None:
        """Begin from nothing, with so many labels."""
        self._learning, self._served, self._state, self._pending = self._new_weights(labels), None, None, []

    def add_labels(self, labels: int) -> None:
        """Make it so many labels. What was learned stays."""
        if labels > self.labels:
            self._pending = []
            self.learning_weights().add_labels(labels)

    def prepare_to_learn(self) -> None:
        """Read the learning state if it was not read before. Raises ModelError as `learning_weights` does."""
        self.learning_weights()

    def learning_weights(self) -> LearningWeights:
        """The weights in the form that learns; the state is read now if it has not been before.

        Raises ModelError if the state is not that of the weights that serve.
        """
        if self._learning is None:
            self._learning = self._read_state()
            self._served = self._state = None
        return self._learning

    def served_weights(self) -> ServedWeights:
        """The weights in the form that serves."""
        return self._served if self._served is not None else self.learning_weights().served()

    def _read_state(self) -> LearningWeights:
        served, data = self.served_weights(), None if self._state is None else self._state.read()
        if data is None:
            return LearningWeights.from_served(
                served, initial_square=INITIAL_SQUARE, max_rows=self.config.max_rows
            )
        digest = served.digest().encode("ascii")
        if data[: len(digest)] != digest:
            raise ModelError(
                "the learning state belongs to other weights than those that were loaded: was the folder "
                "of the model overwritten? Load it again before it learns on"
            )
        return self._learning_from(unpack(data[len(digest) :]))

    @contextmanager
    def serving_form(self) -> Iterator[None]:
        """While it lasts, `to_bytes` gives what serves and nothing else."""
        self._exported = self.served_weights()
        try:
            yield
        finally:
            self._exported = None

    def served_bytes(self) -> bytes:
        """The weights that serve. `from_bytes` understands them."""
        return _SERVED + pack((self._exported or self.served_weights()).arrays())

    def state_bytes(self) -> bytes | None:
        """The learning state to go with `served_bytes`; None if there is none any more."""
        if self._learning is None:
            return None if self._state is None else self._state.read()
        served = self._exported or self._learning.served()
        return served.digest().encode("ascii") + pack(self._learning.arrays())

    def attach_state(self, state: LearningState | None) -> None:
        """Say where the learning state of the weights that serve can be had."""
        self._state = state

    def to_bytes(self) -> bytes:
        """All of it: in the form that learns if that is in memory, else in the form that serves."""
        if self._learning is None or self._exported is not None:
            return self.served_bytes()
        return _LEARNING + pack(self._learning.arrays())

    def from_bytes(self, data: bytes) -> "SparseNgramsShim":
        """Take over what `to_bytes` or `served_bytes` has made. Raises ValueError if it is neither."""
        if data[:1] == WITH_VECTORS:
            raise ModelError(
                "the text classifier was trained with vectors, and its config names none. Put its `vectors` "
                "back into the config of its model, or train it anew"
            )
        form, arrays = data[:1], unpack(data[1:])
        if form == _LEARNING:
            self._learning, self._served = self._learning_from(arrays), None
        elif form == _SERVED:
            self._learning, self._served = None, ServedWeights.from_arrays(self.config.table_bits, arrays)
        else:
            raise ValueError("these are not the weights of karen_learner.SparseNgrams")
        self._state, self._pending = None, []
        return self

    def _learning_from(self, arrays: dict[str, NDArray[Any]]) -> LearningWeights:
        return LearningWeights.from_arrays(
            self.config.table_bits, arrays, initial_square=INITIAL_SQUARE, max_rows=self.config.max_rows
        )

    def _new_weights(self, labels: int) -> LearningWeights:
        return LearningWeights.new(
            self.config.table_bits, labels, initial_square=INITIAL_SQUARE, max_rows=self.config.max_rows
        )

    @property
    def _weights(self) -> LearningWeights | ServedWeights:
        if self._learning is not None:
            return self._learning
        return self.served_weights()


def _parts(docs: Sequence[Doc]) -> list[Sequence[Doc]]:
    return [docs[start : start + TEXTS_AT_ONCE] for start in range(0, len(docs), TEXTS_AT_ONCE)]


def _weight_gradient(
    design: DesignMatrix, gradient: Floats
) -> tuple[NDArray[np.int64], Floats, Floats] | None:
    """Buckets, their gradient, and that of the biases. Texts that are right with a margin have none."""
    active = gradient.any(axis=1)
    if not active.any():
        return None
    values, gradient = design.values[active], gradient[active]
    needed = np.flatnonzero(values.any(axis=0))
    return design.buckets[needed], values[:, needed].T @ gradient, gradient.sum(axis=0)


def _summed(
    steps: list[Step],
) -> Step:
    """One step out of several: gradients of the same bucket add up."""
    if len(steps) == 1:
        return steps[0]
    buckets = np.unique(np.concatenate([buckets for buckets, _, _ in steps]))
    total = np.zeros((len(buckets), len(steps[0][2])), dtype=np.float32)
    for part, gradient, _ in steps:
        total[np.searchsorted(buckets, part)] += gradient
    return buckets, total, np.sum([bias for _, _, bias in steps], axis=0)


def squared_hinge_gradient(margins: Floats, truths: Floats) -> Floats:
    """Gradient of `max(0, 1 - t * margin) ** 2` where t is 1 for a truth of 1.0 and -1 for 0.0.

    Where the truth is NaN nothing is known, and the gradient is 0. All shapes are (texts, labels).
    """
    signs = np.where(truths > 0.5, np.float32(1.0), np.float32(-1.0))
    gradient = -2.0 * signs * np.maximum(np.float32(0.0), 1.0 - signs * margins)
    gradient[np.isnan(truths)] = 0.0
    return np.asarray(gradient, dtype=np.float32)


def shim_of(model: Model[Any, Any]) -> SparseNgramsShim | None:
    """The classifier inside a model, if it is one of these."""
    found = (shim for node in model.walk() for shim in node.shims if isinstance(shim, SparseNgramsShim))
    return next(found, None)


def sparse_ngrams(
    exclusive_classes: bool,
    learn_rate: float = 0.1,
    char_sizes: Sequence[int] = (2, 3, 4, 5),
    max_words: int = 500,
    pair_words: int = 32,
    table_bits: int = 20,
    max_rows: int = 262_144,
    vectors: SentenceVectors | None = None,
    vectors_weight: float = 1.0,
    ngrams_weight: float = 0.5,
    nO: int | None = None,
) -> Model[list[Doc], Floats2d]:
    """Build the classifier.

    exclusive_classes: whether exactly one label is true of a text.
    learn_rate: AdaGrad's; spaCy's optimizer has no say in it.
    char_sizes: lengths of the character n-grams.
    max_words: only so many words of a text are read; pairs are made of the first `pair_words`.
    table_bits: features fall into `2**table_bits` buckets.
    max_rows: features with weights; when there are so many, those with the smallest weights make room.
    vectors: of the text, beside its n-grams; what the two weigh is heeded only if there are some.
    """
    if not 8 <= table_bits <= 28 or max_rows < 2 or max_words < 1 or pair_words < 0 or learn_rate <= 0:
        raise ValueError(
            "karen_learner.SparseNgrams.v1 needs 8 <= table_bits <= 28, max_rows >= 2, max_words >= 1, "
            "pair_words >= 0 and learn_rate > 0"
        )
    if any(size < 1 for size in char_sizes):
        raise ValueError("karen_learner.SparseNgrams.v1 needs char_sizes of 1 or more")
    config = SparseNgramsConfig(
        exclusive_classes, learn_rate, tuple(char_sizes), max_words, pair_words, table_bits, max_rows
    )
    shim = _shim(config, vectors, vectors_weight=vectors_weight, ngrams_weight=ngrams_weight)
    shim.add_labels(nO or 0)
    return Model(
        "sparse_ngrams", _forward, init=_initialize, shims=[shim], attrs={"resize_output": _resize_output}
    )


def _shim(
    config: SparseNgramsConfig,
    vectors: SentenceVectors | None,
    *,
    vectors_weight: float,
    ngrams_weight: float,
) -> SparseNgramsShim:
    if vectors is None:
        return SparseNgramsShim(config)
    if vectors_weight <= 0 or ngrams_weight < 0:
        raise ValueError(
            "karen_learner.SparseNgrams.v1 with vectors needs vectors_weight > 0 and ngrams_weight >= 0"
        )
    from karen_learner.components.dense_ngrams import DenseNgramsShim  # it builds on this module

    return DenseNgramsShim(config, vectors, vectors_weight=vectors_weight, ngrams_weight=ngrams_weight)


def _forward(
    model: Model[list[Doc], Floats2d], docs: list[Doc], is_train: bool
) -> tuple[Floats2d, Callable[[Floats2d], list[Doc]]]:
    """Probabilities. Backprop takes what spaCy's text categorizers give it, `probabilities - truths`, and
    reads the truths out of it: the loss that is minimized is the squared hinge of the margins."""
    shim: Any = model.shims[0]
    squash: Any = softmax if shim.config.exclusive_classes else logistic
    if not is_train:
        return squash(shim.margins(docs).margins * np.float32(MARGIN_SCALE)), lambda _: []
    margins, accumulate = shim.begin_learning(docs)
    scores = squash(margins * np.float32(MARGIN_SCALE))

    def backprop(difference: Any) -> list[Doc]:
        truths = scores - difference
        truths[(difference == 0) & (scores > 0) & (scores < 1)] = np.nan  # masked: nothing is known
        accumulate(squared_hinge_gradient(margins, truths))
        return []

    return scores, backprop


def _initialize(model: Model[Any, Any], X: Any = None, Y: Any = None) -> None:  # noqa: ARG001 - thinc
    shim: Any = model.shims[0]
    shim.reset(shim.labels if Y is None else Y.shape[1])


def _resize_output(model: Model[Any, Any], labels: int) -> Model[Any, Any]:
    shim: Any = model.shims[0]
    shim.add_labels(labels)
    return model
