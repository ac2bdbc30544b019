"""`karen_learner.SparseChain.v1`: a linear chain over hashed features that learns on the fly.

A conditional random field whose features are what `token_features` reads; it is trained by the gradient of
its likelihood, and what is not annotated is summed over:

    Tsuboi et al.: Training Conditional Random Fields Using Incomplete Annotations, COLING 2008.

The weights live in a `LearningShim`, which applies AdaGrad to the rows of the features present (see
`sparse_rows`). The optimizer that spaCy hands over only says *when* to step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc
from thinc.api import Model

from karen_learner.components.lexical.clusters import WordClusters
from karen_learner.components.ner.batch import ChainBatch
from karen_learner.components.ner.crf import best_sequences, forward_backward
from karen_learner.components.ner.features import Segments, TokenFeaturizer, cut_into_segments
from karen_learner.components.ner.tags import UNKNOWN, begun_anew, tag_count
from karen_learner.components.ner.weights import LearningChain, ServedChain
from karen_learner.components.online.feature_rows import RowOptions
from karen_learner.components.online.shim import LearningShim, first_shim
from karen_learner.components.online.weights import Arrays, Step

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SEGMENT_TOKENS = 128
"""Longer texts are read in segments of so many tokens; no entity reaches from one into the next."""
TAUGHT_TOKENS = 4096
"""Of a longer text only the beginning is learned from, so that what a step costs is bounded."""
TOKENS_AT_ONCE, CELLS_AT_ONCE = 4096, 4_000_000
"""Bounds of what is worked on at a time: padded tokens, and chains times tags times tags."""
SMALLEST_ERROR = 0.002
"""A tag whose probability is wrong by less teaches nothing: four in five weights are never touched."""


@dataclass(frozen=True)
class SparseChainConfig:
    """The choices that make the model; see `sparse_chain`."""

    learn_rate: float
    initial_square: float
    dropout: float
    word_clusters: bool
    table_bits: int
    max_rows: int


class SparseChainShim(LearningShim[LearningChain, ServedChain, Step]):
    """The chain: its features, its weights, and the gradients that wait for `finish_update`."""

    architecture = "karen_learner.SparseChain"

    def __init__(self, config: SparseChainConfig) -> None:
        options = RowOptions(config.table_bits, config.max_rows, config.initial_square)
        super().__init__(LearningChain, ServedChain, options, learn_rate=config.learn_rate)
        self.config = config
        self._features = TokenFeaturizer()

    def __deepcopy__(self, memo: dict[int, Any]) -> "SparseChainShim":
        return self._copied_to(SparseChainShim(self.config))

    @property
    def tags(self) -> int:
        """How many tags there are."""
        return int(self._weights.chain.shape[1])

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
        batch = ChainBatch.of(self._features(docs, part), part, weights.rows.table)
        return best_sequences(batch.scores(weights.feature_weights(batch.buckets), weights.chain))

    def teach(
        self,
        docs: Sequence[Doc],
        tags: Sequence[Ints],
        *,
        drop: bool = False,
        counts: Floats | None = None,
    ) -> float:
        """Keep the gradient of `-log p(tags)` until `finish_update`; returns that loss, summed.

        `tags` has an array of shape (tokens,) for each document, UNKNOWN where any tag may stand. `counts`
        (shape (documents,)): what each document counts in the gradient.
        """
        known = [min(len(one), TAUGHT_TOKENS) if (one != UNKNOWN).any() else 0 for one in tags]
        parts = self._parts(known)
        return float(sum(self._teach_part(docs, tags, part, drop=drop, counts=counts) for part in parts))

    def _teach_part(
        self,
        docs: Sequence[Doc],
        gold: Sequence[Ints],
        part: Segments,
        *,
        drop: bool,
        counts: Floats | None,
    ) -> float:
        weights = self.learning_weights()
        batch = ChainBatch.of(self._features(docs, part), part, weights.rows.table)
        if drop and self.config.dropout:
            seed = (weights.steps, len(self._pending))
            batch = batch.dropped(self.config.dropout, np.random.default_rng(seed))
        scores = batch.scores(weights.feature_weights(batch.buckets), weights.chain)
        of_chains = None if counts is None else counts[[text for text, _, _ in part.places()]]
        every = forward_backward(scores, counts=of_chains)
        pieces = [begun_anew(piece) for piece in part.slices_of(gold)]
        right = forward_backward(scores, allowed=batch.allowed(pieces, weights.tags), counts=of_chains)
        tags = every.marginals - right.marginals
        tags[np.abs(tags) < SMALLEST_ERROR] = 0.0
        if of_chains is not None:
            tags *= of_chains[:, None]
        gradient = batch.gradient(tags, every.transitions - right.transitions)
        self._pending.append(Step(batch.buckets, np.arange(weights.tags), *gradient))
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
        self._step(pending)

    def reset(self, labels: int, *, clusters: WordClusters | None = None) -> None:
        """Begin from nothing, with so many labels; without `clusters` no word has one."""
        self._features = TokenFeaturizer(clusters)
        super().reset(labels)

    def add_labels(self, labels: int) -> None:
        """Make it so many labels. What was learned stays."""
        if tag_count(labels) > self.tags:
            self._pending = []
            self.learning_weights().add_labels(labels)

    def _packed(self, arrays: Arrays) -> bytes:
        return super()._packed({**arrays, **self._features.clusters.arrays()})

    def _take_over(self, form: bytes, arrays: Arrays) -> None:
        features = TokenFeaturizer(WordClusters.from_arrays(arrays))
        super()._take_over(form, arrays)
        self._features = features


def chain_of(model: Model[Any, Any]) -> SparseChainShim:
    """The chain inside a model. Raises ValueError if there is none."""
    chain = first_shim(model, SparseChainShim)
    if chain is None:
        raise ValueError("the model has no linear chain: use karen_learner.SparseChain.v1")
    return chain


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
