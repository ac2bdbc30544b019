"""Batches of a chain: features, and the gradient of the likelihood against finite differences."""

import numpy as np
import pytest
import spacy

from karen_learner.components.ner.crf import ChainBatch, forward_backward
from karen_learner.components.ner.features import NO_FEATURE, Segments, TokenFeaturizer, cut_into_segments
from karen_learner.components.ner.tags import UNKNOWN
from karen_learner.components.ner.weights import BIAS, FIRST_TRANSITION, LearningChain
from karen_learner.components.online.feature_rows import RowOptions, Step

LABELS, TAGS = 2, 5
TEXTS = ["fly to New York", "eat pizza", "now"]
GOLD = [np.array([0, 0, 1, 2]), np.array([UNKNOWN, 3]), np.array([0])]
NLP = spacy.blank("en")


def options(max_rows: int) -> RowOptions:
    return RowOptions(bits=12, max_rows=max_rows, initial_square=1.0)


def read(texts: list[str] = TEXTS, max_tokens: int = 128) -> tuple[ChainBatch, LearningChain]:
    docs = [NLP.make_doc(text) for text in texts]
    segments = cut_into_segments([len(doc) for doc in docs], max_tokens=max_tokens)
    weights = LearningChain.new(options(max_rows=10_000), LABELS)
    return ChainBatch.from_features(TokenFeaturizer()(docs, segments), segments, weights.rows.table), weights


def loss(batch: ChainBatch, features: np.ndarray, chain: np.ndarray) -> float:
    scores = batch.scores(features, chain)
    allowed = batch.allowed(batch.segments.slices_of(GOLD), TAGS)
    right = forward_backward(scores, allowed=allowed).log_partition
    return float((forward_backward(scores).log_partition - right).sum())


@pytest.mark.parametrize("dropped", [False, True])
def test_the_gradient_is_that_of_finite_differences(dropped: bool) -> None:
    rng = np.random.default_rng(0)
    batch, _ = read()
    if dropped:
        batch = batch.with_dropout(0.3, rng)
    features = rng.normal(size=(len(batch.buckets), TAGS)).astype(np.float32) / 8
    chain = rng.normal(size=(FIRST_TRANSITION + TAGS, TAGS)).astype(np.float32)
    scores = batch.scores(features, chain)
    every = forward_backward(scores)
    right = forward_backward(scores, allowed=batch.allowed(batch.segments.slices_of(GOLD), TAGS))
    gradients = batch.gradient(every.marginals - right.marginals, every.transitions - right.transitions)
    step = 2.0**-6
    for weights, gradient in zip((features, chain), gradients, strict=True):
        for place in zip(*(rng.integers(0, size, 25) for size in weights.shape), strict=True):
            kept = weights[place]
            weights[place] = kept + step
            above = loss(batch, features, chain)
            weights[place] = kept - step
            below = loss(batch, features, chain)
            weights[place] = kept
            assert gradient[place] == pytest.approx((above - below) / (2 * step), abs=2e-3)


def test_segments_cover_each_token_once_by_descending_length() -> None:
    segments = cut_into_segments([5, 0, 12, 4], max_tokens=5)
    assert segments.lengths.tolist() == [5, 5, 5, 4, 2]
    covered = sorted(
        (text, token)
        for text, start, length in zip(segments.texts, segments.starts, segments.lengths, strict=True)
        for token in range(start, start + length)
    )
    assert covered == [(text, token) for text, size in ((0, 5), (2, 12), (3, 4)) for token in range(size)]


def test_features_depend_on_neighbours_but_not_on_other_texts() -> None:
    featurizer = TokenFeaturizer()

    def features(*texts: str) -> np.ndarray:
        docs = [NLP.make_doc(text) for text in texts]
        lengths = np.array([len(doc) for doc in docs])
        count = len(docs)
        segments = Segments(np.arange(count), np.zeros(count, dtype=np.int64), lengths)
        return featurizer(docs, segments).tokens

    alone = features("fly to Rome")
    assert (features("fly to Rome", "eat pizza")[:3] == alone).all()
    other = features("go to Rome")
    assert (other[1] != alone[1]).any()
    assert (other[1] == alone[1]).any()


def test_short_words_have_unused_places() -> None:
    docs = [NLP.make_doc("a b")]
    tokens = TokenFeaturizer()(docs, cut_into_segments([2], max_tokens=8)).tokens
    assert (tokens == NO_FEATURE).any()


def test_a_full_table_drops_the_smallest_weights() -> None:
    weights = LearningChain.new(options(max_rows=10), LABELS)
    chain = np.zeros((FIRST_TRANSITION + TAGS, TAGS), dtype=np.float32)
    sizes = np.arange(1, 9, dtype=np.float32)
    tags = np.arange(TAGS)
    weights.step(Step(np.arange(8), tags, -np.tile(sizes[:, None], (1, TAGS)), chain), learn_rate=1.0)
    ones = np.ones((4, TAGS), dtype=np.float32)
    weights.step(Step(np.arange(100, 104), tags, -ones, chain), learn_rate=1.0)
    assert len(weights.rows.table) == 10
    assert not weights.feature_weights(np.arange(2)).any()
    assert weights.feature_weights(np.array([7, 100, 102])).all()


def test_new_labels_keep_the_trained_weights() -> None:
    weights = LearningChain.new(options(max_rows=100), LABELS)
    chain = np.ones((FIRST_TRANSITION + TAGS, TAGS), dtype=np.float32)
    ones = np.ones((3, TAGS), dtype=np.float32)
    weights.step(Step(np.arange(3), np.arange(TAGS), ones, chain), learn_rate=1.0)
    before = weights.feature_weights(np.arange(3))
    weights.add_labels(LABELS + 1)
    after = weights.feature_weights(np.arange(3))
    assert (after[:, :TAGS] == before).all()
    assert not after[:, TAGS:].any()
    assert (weights.chain[BIAS, TAGS:] < 0).all()
