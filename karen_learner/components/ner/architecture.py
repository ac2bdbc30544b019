"""`karen_learner.SparseChain.v1`: an online linear-chain conditional random field over hashed features.

The gradient is that of the likelihood. Tokens without annotation are summed over:

    Tsuboi et al.: Training Conditional Random Fields Using Incomplete Annotations, COLING 2008.

The weights are in a `LearningShim`. AdaGrad updates only the rows of present features. spaCy's optimizer sets
the time of a step, not its size.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from spacy.tokens import Doc
from thinc.api import Model

from karen_learner.components.arrays import Arrays, Floats, Ints, Mask
from karen_learner.components.lexical import clusters
from karen_learner.components.ner.crf import ChainBatch, best_sequences, forward_backward, scores_of
from karen_learner.components.ner.features import Segments, TokenFeaturizer, cut_into_segments
from karen_learner.components.ner.tags import OUTSIDE, TAGS_PER_LABEL, UNKNOWN, with_valid_start
from karen_learner.components.ner.weights import LearningChain, ServedChain, tag_count
from karen_learner.components.online.feature_rows import RowOptions, Step
from karen_learner.components.online.shim import LearningShim, find_shim

SEGMENT_TOKENS = 128
"""Length of a segment. No entity spans two segments."""
MAX_TRAINING_TOKENS = 4096
"""Training uses only the first tokens of a longer text. That bounds the cost of a step."""
TOKENS_PER_PART, CELLS_PER_PART = 4096, 4_000_000
"""Bounds of one computation: padded tokens, and chains times tags times tags."""
SMALLEST_ERROR = 0.002
"""Tags with a smaller probability error produce no gradient. That omits four in five weights."""


LARGEST_ODDS = 10.0
"""Bound of the odds of an incorrect span, which are the factor of its gradient."""
MOVES_PER_LABEL = 4
"""Moves of a label in spaCy's transition system, which also has two moves without a label."""


class IncorrectSpan(NamedTuple):
    """Tokens of a text that are no entity of this label; with NO_LABEL, tokens that are not all outside."""

    text: int
    start: int
    end: int
    label: int

    def mask(self, length: int, tags: int) -> Mask:
        """Mask (length, tags) of the tags with which the first `length` tokens have exactly this span."""
        mask = np.ones((length, tags), dtype=bool)
        mask[self.start : self.end] = False
        if self.label < 0:
            mask[self.start : self.end, OUTSIDE] = True
            return mask
        begin = 1 + TAGS_PER_LABEL * self.label
        mask[self.start, begin] = True
        mask[self.start + 1 : self.end, begin + 1] = True
        mask[self.end : self.end + 1, begin + 1] = False
        return mask


class SparseChainShim(LearningShim[LearningChain, ServedChain, Step]):
    """Features and weights of the chain, and its pending gradients."""

    architecture = "karen_learner.SparseChain"

    def __init__(self, rows: RowOptions, *, learn_rate: float, dropout: float, word_clusters: bool) -> None:
        super().__init__(LearningChain, ServedChain, rows, learn_rate=learn_rate)
        self._dropout = dropout
        self._word_clusters = word_clusters
        self._features = TokenFeaturizer(rows.bits)

    @property
    def tags(self) -> int:
        """Number of tags."""
        return int(self._weights.chain.shape[1])

    def best_tags(self, docs: Sequence[Doc]) -> list[Ints]:
        """The best valid tags of the tokens of each document."""
        tags = [np.zeros(len(doc), dtype=np.int64) for doc in docs]
        for part in self._parts([len(doc) for doc in docs]):
            best = self._best_of_part(docs, part)
            for chain, (text, start, end) in enumerate(part.places()):
                tags[text][start:end] = best[: end - start, chain]
        return tags

    def _best_of_part(self, docs: Sequence[Doc], part: Segments) -> Ints:
        weights, features = self._weights, self._features(docs, part)
        tokens, contexts = (weights.sums(buckets) for buckets in features)
        return best_sequences(scores_of(part, weights.chain, tokens=tokens, contexts=contexts))

    def loss(
        self,
        docs: Sequence[Doc],
        tags: Sequence[Ints],
        *,
        training: bool,
        sample_weights: Floats | None = None,
    ) -> float:
        """Sum of `-log p(tags)`. In training, features are dropped, and the gradient is pending.

        `tags` has one array (tokens,) a document; UNKNOWN allows any tag. `sample_weights` has the shape
        (documents,).
        """
        lengths = [min(len(one), MAX_TRAINING_TOKENS) if (one != UNKNOWN).any() else 0 for one in tags]
        parts = self._parts(lengths)
        losses = (self._loss_of_part(docs, tags, part, training, sample_weights) for part in parts)
        return float(sum(losses))

    def _loss_of_part(
        self,
        docs: Sequence[Doc],
        gold: Sequence[Ints],
        part: Segments,
        training: bool,
        weights: Floats | None,
    ) -> float:
        learning = self.learning_weights()
        batch = ChainBatch.from_features(self._features(docs, part), part, learning.rows.table)
        if training and self._dropout:
            seed = (learning.steps, len(self._pending))
            batch = batch.with_dropout(self._dropout, np.random.default_rng(seed))
        scores = batch.scores(learning.feature_weights(batch.buckets), learning.chain)
        chain_weights = None if weights is None else weights[[text for text, _, _ in part.places()]]
        free = forward_backward(scores, chain_weights=chain_weights)
        allowed = batch.allowed([with_valid_start(piece) for piece in part.slices_of(gold)], learning.tags)
        constrained = forward_backward(scores, allowed=allowed, chain_weights=chain_weights)
        if training:
            tags = free.marginals - constrained.marginals
            tags[np.abs(tags) < SMALLEST_ERROR] = 0.0
            if chain_weights is not None:
                tags *= chain_weights[:, None]
            gradient = batch.gradient(tags, free.transitions - constrained.transitions)
            self._pending.append(Step(batch.buckets, np.arange(learning.tags), *gradient))
        return float((free.log_partition - constrained.log_partition).sum())

    def incorrect_loss(
        self,
        docs: Sequence[Doc],
        tags: Sequence[Ints],
        spans: Sequence[IncorrectSpan],
        *,
        training: bool,
        sample_weights: Floats | None = None,
    ) -> float:
        """Sum of `-log(1 - p(span))` over the spans, given the tags. In training, the gradient is pending.

        `tags` and `sample_weights` are those of `loss`. A span across two segments is omitted.
        """
        loss = 0.0
        for span in spans:
            start = span.start - span.start % SEGMENT_TOKENS
            end = min(start + SEGMENT_TOKENS, len(docs[span.text]))
            if span.start < span.end <= end:
                weight = 1.0 if sample_weights is None else float(sample_weights[span.text])
                local = span._replace(start=span.start - start, end=span.end - start)
                segment = Segments(np.array([span.text]), np.array([start]), np.array([end - start]))
                loss += self._loss_of_span(docs, tags, segment, local, training, weight)
        return loss

    def _loss_of_span(
        self,
        docs: Sequence[Doc],
        gold: Sequence[Ints],
        segment: Segments,
        span: IncorrectSpan,
        training: bool,
        weight: float,
    ) -> float:
        """The loss of a span, whose tokens count from the start of its segment."""
        learning = self.learning_weights()
        batch = ChainBatch.from_features(self._features(docs, segment), segment, learning.rows.table)
        scores = batch.scores(learning.feature_weights(batch.buckets), learning.chain)
        allowed = batch.allowed([with_valid_start(one) for one in segment.slices_of(gold)], learning.tags)
        all_tags = forward_backward(scores, allowed=allowed)
        mask = span.mask(len(allowed), learning.tags)
        with_span = forward_backward(scores, allowed=allowed & mask[:, None])
        probability = np.exp(min(0.0, float((with_span.log_partition - all_tags.log_partition)[0])))
        odds = min(LARGEST_ODDS, probability / max(1.0 - probability, 1.0 / LARGEST_ODDS))
        if training:
            factor = odds * weight
            gradient = batch.gradient(
                factor * (with_span.marginals - all_tags.marginals),
                factor * (with_span.transitions - all_tags.transitions),
            )
            self._pending.append(Step(batch.buckets, np.arange(learning.tags), *gradient))
        return float(-np.log(max(1.0 - probability, np.exp(-LARGEST_ODDS)))) * weight

    def _parts(self, lengths: Sequence[int]) -> Iterator[Segments]:
        """The segments of texts with these lengths, in parts of bounded cost."""
        segments = cut_into_segments(lengths, max_tokens=SEGMENT_TOKENS)
        max_chains = max(1, CELLS_PER_PART // self.tags**2)
        start = 0
        while start < len(segments):
            size = max(1, min(max_chains, TOKENS_PER_PART // int(segments.lengths[start])))
            yield segments.part(start, start + size)
            start += size

    def finish_update(self, optimizer: Any) -> None:  # noqa: ARG002 - the step size is the shim's own
        """Apply the pending gradients at the learn rate of the shim."""
        pending, self._pending = self._pending, []
        self._step(pending)

    def initialize(self, labels: int, language: str) -> None:
        """Replace the weights by new ones for this number of labels, and load the word clusters."""
        found = clusters.word_clusters(language) if self._word_clusters else clusters.WordClusters()
        self._features = TokenFeaturizer(self._options.bits, found)
        self.reset(labels)

    def add_labels(self, labels: int) -> None:
        """Grow to this number of labels. Existing weights stay."""
        if tag_count(labels) > self.tags:
            self._pending = []
            self.learning_weights().add_labels(labels)

    def _pack(self, arrays: Arrays) -> bytes:
        return super()._pack({**arrays, **self._features.clusters.arrays()})

    def _restore(self, form: bytes, arrays: Arrays) -> None:
        features = TokenFeaturizer(self._options.bits, clusters.WordClusters.from_arrays(arrays))
        super()._restore(form, arrays)
        self._features = features


def chain_of(model: Model[Any, Any]) -> SparseChainShim:
    """The chain of a model. Raises ValueError if it has none."""
    chain = find_shim(model, SparseChainShim)
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

    learn_rate: of AdaGrad; it replaces the one of spaCy's optimizer.
    initial_square: start of AdaGrad's sums; a larger value makes the first steps smaller.
    dropout: share of the features that each training step omits.
    word_clusters: whether `initialize` loads the Brown clusters of the language.
    table_bits: features fall into `2**table_bits` buckets.
    max_rows: features with weights; a full table evicts those with the smallest weights.
    """
    if not 8 <= table_bits <= 28 or max_rows < 2 or learn_rate <= 0 or initial_square <= 0:
        raise ValueError(
            "karen_learner.SparseChain.v1 needs 8 <= table_bits <= 28, max_rows >= 2, learn_rate > 0 "
            "and initial_square > 0"
        )
    if not 0 <= dropout < 1:
        raise ValueError("karen_learner.SparseChain.v1 needs 0 <= dropout < 1")
    rows = RowOptions(table_bits, max_rows, initial_square)
    shim = SparseChainShim(rows, learn_rate=learn_rate, dropout=dropout, word_clusters=word_clusters)
    return Model("sparse_chain", _forward, shims=[shim], attrs={"resize_output": _resize_output})


def _forward(
    model: Model[list[Doc], list[Ints]], docs: list[Doc], is_train: bool
) -> tuple[list[Ints], Callable[[list[Ints]], list[Doc]]]:
    """The best tags. Backprop expects the gold tags, UNKNOWN without annotation."""
    chain = chain_of(model)

    def backprop(gold: list[Ints]) -> list[Doc]:
        chain.loss(docs, gold, training=is_train)
        return []

    return chain.best_tags(docs), backprop


def _resize_output(model: Model[Any, Any], moves: int) -> Model[Any, Any]:
    """Grow to the labels of this number of moves of spaCy's transition system."""
    chain_of(model).add_labels((moves - 1) // MOVES_PER_LABEL)
    return model
