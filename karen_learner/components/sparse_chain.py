"""`karen_learner.SparseChain.v1`: a linear chain over hashed features that learns on the fly.

A conditional random field whose features are what `token_features` reads; it is trained by the gradient of
its likelihood, and what is not annotated is summed over:

    Tsuboi et al.: Training Conditional Random Fields Using Incomplete Annotations, COLING 2008.

The weights are no parameters of thinc's: they live in a `Shim`, which applies AdaGrad to the rows of the
features present (see `sparse_rows`). The optimizer that spaCy hands over only says *when* to step.
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

from karen_learner.components.chain_batch import ChainBatch
from karen_learner.components.chain_weights import LearningChain, ServedChain
from karen_learner.components.entity_tags import UNKNOWN, begun_anew, tag_count
from karen_learner.components.learning_state import LearningState
from karen_learner.components.linear_chain import best_sequences, forward_backward
from karen_learner.components.row_coding import pack, unpack
from karen_learner.components.token_features import Segments, TokenFeaturizer, cut_into_segments
from karen_learner.components.word_clusters import WordClusters
from karen_learner.errors import ModelError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]
Step = tuple[Ints, Floats, Floats]

SEGMENT_TOKENS = 128
"""Longer texts are read in segments of so many tokens; no entity reaches from one into the next."""
TAUGHT_TOKENS = 4096
"""Of a longer text only the beginning is learned from, so that what a step costs is bounded."""
TOKENS_AT_ONCE, CELLS_AT_ONCE = 4096, 4_000_000
"""Bounds of what is worked on at a time: padded tokens, and chains times tags times tags."""
SMALLEST_ERROR = 0.002
"""A tag whose probability is wrong by less teaches nothing: four in five weights are never touched."""
_SERVED, _LEARNING = b"S", b"L"


@dataclass(frozen=True)
class SparseChainConfig:
    """The choices that make the model; see `sparse_chain`."""

    learn_rate: float
    initial_square: float
    dropout: float
    word_clusters: bool
    table_bits: int
    max_rows: int


class SparseChainShim(Shim):
    """The chain: its features, its weights, and the gradients that wait for `finish_update`."""

    def __init__(self, config: SparseChainConfig) -> None:
        super().__init__(None)
        self.config = config
        self.learn_rate_scale = 1.0
        self._features = TokenFeaturizer()
        self._learning: LearningChain | None = self._new_weights(0)
        self._served: ServedChain | None = None
        self._exported: ServedChain | None = None
        self._state: LearningState | None = None
        self._pending: list[Step] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "SparseChainShim":
        return SparseChainShim(self.config).from_bytes(self.to_bytes())

    @property
    def tags(self) -> int:
        """How many tags there are."""
        return int(self._weights.chain.shape[1])

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

    def best_tags(self, docs: Sequence[Doc]) -> list[Ints]:
        """The best valid tags of the tokens of each document. Changes nothing."""
        tags = [np.zeros(len(doc), dtype=np.int64) for doc in docs]
        for part in self._parts([len(doc) for doc in docs]):
            best = self._best_of_part(docs, part)
            for chain, (text, start, end) in enumerate(part.places()):
                tags[text][start:end] = best[: end - start, chain]
        return tags

    def _best_of_part(self, docs: Sequence[Doc], part: Segments) -> Ints:
        weights = self._weights
        batch = ChainBatch.of(self._features(docs, part), part, weights.table)
        return best_sequences(batch.scores(weights.feature_weights(batch.buckets), weights.chain))

    def teach(self, docs: Sequence[Doc], tags: Sequence[Ints], *, drop: bool = False) -> float:
        """Keep the gradient of `-log p(tags)` until `finish_update`; returns that loss, summed.

        `tags` has an array of shape (tokens,) for each document, UNKNOWN where any tag may stand.
        """
        weights = self.learning_weights()
        known = [min(len(one), TAUGHT_TOKENS) if (one != UNKNOWN).any() else 0 for one in tags]
        return float(sum(self._teach_part(weights, docs, tags, part, drop) for part in self._parts(known)))

    def _teach_part(
        self, weights: LearningChain, docs: Sequence[Doc], gold: Sequence[Ints], part: Segments, drop: bool
    ) -> float:
        batch = ChainBatch.of(self._features(docs, part), part, weights.table)
        if drop and self.config.dropout:
            seed = (weights.steps, len(self._pending))
            batch = batch.dropped(self.config.dropout, np.random.default_rng(seed))
        scores = batch.scores(weights.feature_weights(batch.buckets), weights.chain)
        every = forward_backward(scores)
        pieces = [begun_anew(piece) for piece in part.slices_of(gold)]
        right = forward_backward(scores, allowed=batch.allowed(pieces, weights.tags))
        tags = every.marginals - right.marginals
        tags[np.abs(tags) < SMALLEST_ERROR] = 0.0
        gradient = batch.gradient(tags, every.transitions - right.transitions)
        self._pending.append((batch.buckets, *gradient))
        return float((every.log_partition - right.log_partition).sum())

    def _parts(self, lengths: Sequence[int]) -> Iterator[Segments]:
        """The segments of texts with these lengths, so many at a time as are worked on at once."""
        segments = cut_into_segments(lengths, max_tokens=SEGMENT_TOKENS)
        most = max(1, CELLS_AT_ONCE // self.tags**2)
        start = 0
        while start < len(segments):
            size = max(1, min(most, TOKENS_AT_ONCE // int(segments.lengths[start])))
            yield segments.part(start, start + size)
            start += size

    def finish_update(self, optimizer: Any) -> None:  # noqa: ARG002 - it is not asked how to step
        """Apply the gradients that wait, at this chain's own learn rate."""
        pending, self._pending = self._pending, []
        if pending:
            rate = self.config.learn_rate * self.learn_rate_scale
            self.learning_weights().step(*_summed(pending), learn_rate=rate)

    def discard_gradients(self) -> None:
        """Forget what waits for `finish_update`."""
        self._pending = []

    def all_finite(self) -> bool:
        """Whether no weight that learns is NaN or infinite."""
        return self._learning is None or self._learning.all_finite()

    def reset(self, labels: int, *, clusters: WordClusters | None = None) -> None:
        """Begin from nothing, with so many labels; `clusters` are looked at if the config wants them."""
        self._features = TokenFeaturizer(clusters if self.config.word_clusters else None)
        self._learning, self._served, self._state, self._pending = self._new_weights(labels), None, None, []

    def add_labels(self, labels: int) -> None:
        """Make it so many labels. What was learned stays."""
        if tag_count(labels) > self.tags:
            self._pending = []
            self.learning_weights().add_labels(labels)

    def prepare_to_learn(self) -> None:
        """Read the learning state if it was not read before. Raises ModelError as `learning_weights` does."""
        self.learning_weights()

    def learning_weights(self) -> LearningChain:
        """The weights in the form that learns; the state is read now if it has not been before.

        Raises ModelError if the state is not that of the weights that serve.
        """
        if self._learning is None:
            self._learning = self._read_state()
            self._served = self._state = None
        return self._learning

    def served_weights(self) -> ServedChain:
        """The weights in the form that serves."""
        return self._served if self._served is not None else self.learning_weights().served()

    def _read_state(self) -> LearningChain:
        served, data = self.served_weights(), None if self._state is None else self._state.read()
        if data is None:
            return LearningChain.from_served(
                served, initial_square=self.config.initial_square, max_rows=self.config.max_rows
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
        return _SERVED + self._packed((self._exported or self.served_weights()).arrays())

    def _packed(self, arrays: Arrays) -> bytes:
        return pack({**arrays, **self._features.clusters.arrays()})

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
        return _LEARNING + self._packed(self._learning.arrays())

    def from_bytes(self, data: bytes) -> "SparseChainShim":
        """Take over what `to_bytes` or `served_bytes` has made. Raises ValueError if it is neither."""
        form, arrays = data[:1], unpack(data[1:])
        if form == _LEARNING:
            self._learning, self._served = self._learning_from(arrays), None
        elif form == _SERVED:
            self._learning, self._served = None, ServedChain.from_arrays(self.config.table_bits, arrays)
        else:
            raise ValueError("these are not the weights of karen_learner.SparseChain")
        self._features = TokenFeaturizer(WordClusters.from_arrays(arrays))
        self._state, self._pending = None, []
        return self

    def _learning_from(self, arrays: Arrays) -> LearningChain:
        config = self.config
        return LearningChain.from_arrays(
            config.table_bits, arrays, initial_square=config.initial_square, max_rows=config.max_rows
        )

    def _new_weights(self, labels: int) -> LearningChain:
        config = self.config
        return LearningChain.new(
            config.table_bits, labels, initial_square=config.initial_square, max_rows=config.max_rows
        )

    @property
    def _weights(self) -> LearningChain | ServedChain:
        return self._learning if self._learning is not None else self.served_weights()


def _summed(steps: list[Step]) -> Step:
    """One step out of several: gradients of the same bucket add up."""
    if len(steps) == 1:
        return steps[0]
    buckets = np.unique(np.concatenate([buckets for buckets, _, _ in steps]))
    total = np.zeros((len(buckets), steps[0][1].shape[1]), dtype=np.float32)
    for part, gradient, _ in steps:
        total[np.searchsorted(buckets, part)] += gradient
    return buckets, total, np.sum([chain for _, _, chain in steps], axis=0)


def chain_of(model: Model[Any, Any]) -> SparseChainShim:
    """The chain inside a model. Raises ValueError if there is none."""
    for node in model.walk():
        for shim in node.shims:
            if isinstance(shim, SparseChainShim):
                return shim
    raise ValueError("the model has no linear chain: use karen_learner.SparseChain.v1")


def sparse_chain(
    learn_rate: float = 0.2,
    initial_square: float = 1.0,
    dropout: float = 0.3,
    word_clusters: bool = True,
    table_bits: int = 20,
    max_rows: int = 524_288,
) -> Model[list[Doc], list[Ints]]:
    """Build the chain.

    learn_rate: AdaGrad's; spaCy's optimizer has no say in it.
    initial_square: what AdaGrad's sums begin with; the larger, the gentler the first steps.
    dropout: the share of features that each training step goes without.
    word_clusters: whether the pipe, when it is initialized, takes up the Brown clusters of its language.
    table_bits: features fall into `2**table_bits` buckets.
    max_rows: features with weights; when there are so many, those with the smallest weights make room.
    """
    if not 8 <= table_bits <= 28 or max_rows < 2 or learn_rate <= 0 or initial_square <= 0:
        raise ValueError(
            "karen_learner.SparseChain.v1 needs 8 <= table_bits <= 28, max_rows >= 2, learn_rate > 0 "
            "and initial_square > 0"
        )
    if not 0 <= dropout < 1:
        raise ValueError("karen_learner.SparseChain.v1 needs 0 <= dropout < 1")
    config = SparseChainConfig(learn_rate, initial_square, dropout, word_clusters, table_bits, max_rows)
    return Model("sparse_chain", _forward, shims=[SparseChainShim(config)])


def _forward(
    model: Model[list[Doc], list[Ints]], docs: list[Doc], is_train: bool
) -> tuple[list[Ints], Callable[[list[Ints]], list[Doc]]]:
    """The best tags. Backprop takes the right ones (UNKNOWN where nothing is known) and accumulates."""
    chain = chain_of(model)

    def backprop(right: list[Ints]) -> list[Doc]:
        chain.teach(docs, right, drop=is_train)
        return []

    return chain.best_tags(docs), backprop
