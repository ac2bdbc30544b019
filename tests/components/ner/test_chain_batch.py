"""Batches of a chain: features, and the gradient of the likelihood against finite differences."""

import numpy as np
import pytest
import spacy
from spacy.strings import get_string_id

from karen_learner.components.lexical.clusters import word_clusters
from karen_learner.components.lexical.words import combine, salted
from karen_learner.components.ner.crf import ChainBatch, forward_backward, scores_of
from karen_learner.components.ner.features import PLACES, Segments, TokenFeaturizer, cut_into_segments
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
    return ChainBatch.from_features(
        TokenFeaturizer(12)(docs, segments), segments, weights.rows.table
    ), weights


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


def test_features_are_those_of_the_definition() -> None:
    """The batch gathers all features of a kind together, and caches parts of words."""
    nlp = spacy.blank("en")
    doc = nlp.make_doc("Fly to qwrtz today")
    clusters = word_clusters("en")
    featurizer = TokenFeaturizer(20, clusters)
    [tokens, contexts] = featurizer([doc, doc], cut_into_segments([4, 4], max_tokens=8))
    border = np.array([1], dtype=np.uint64)

    def near(values: np.ndarray, at: int) -> np.ndarray:
        return values[at : at + 1] if 0 <= at < len(values) else border

    words, shapes = doc.to_array(["LOWER", "SHAPE"]).T
    endings = [get_string_id("\x02" + word.lower_[-3:]) if len(word) > 2 else 0 for word in doc]
    suffixes = np.array(endings, dtype=np.uint64)
    for token in range(4):
        expected = [salted(near(words, token + offset), salt=3 + offset) for offset in range(-2, 3)]
        expected += [salted(near(shapes, token + offset), salt=7 + offset) for offset in range(-1, 2)]
        expected += [salted(near(suffixes, token + offset), salt=salt) for offset, salt in ((-1, 9), (1, 10))]
        for salt, (left, right) in enumerate([(-2, -1), (-1, 0), (0, 1), (1, 2), (-1, 1)], start=50):
            expected.append(combine(near(words, token + left), near(words, token + right), salt=salt))
        shaped = [(shapes, -1, 0), (shapes, 0, 1), (words, -1, 0), (words, 1, 0)]
        for salt, (first, left, right) in enumerate(shaped, start=55):
            expected.append(combine(near(first, token + left), near(shapes, token + right), salt=salt))
        buckets = [int(one[0]) >> 44 for one in expected]
        assert set(buckets) <= set(tokens[token].tolist()) == set(tokens[4 + token].tolist())
    known = clusters.values_of(words) != 0
    assert known.tolist() == [True, True, False, True]
    assert ((tokens[:4, PLACES - 2 :] == featurizer.no_bucket).sum(axis=1) == [1, 1, 2, 2]).all()
    assert len(set(contexts[0].tolist())) == 4


def test_served_sums_are_those_of_the_batch() -> None:
    rng = np.random.default_rng(0)
    batch, weights = read()
    features = rng.normal(size=(len(batch.buckets), TAGS)).astype(np.float32)
    chain = rng.normal(size=(FIRST_TRANSITION + TAGS, TAGS)).astype(np.float32)
    weights.step(Step(batch.buckets[::2], np.arange(TAGS), features[::2], chain), learn_rate=1.0)
    served = weights.served()
    docs = [NLP.make_doc(text) for text in TEXTS]
    tokens, contexts = TokenFeaturizer(12)(docs, batch.segments)
    from_batch = batch.scores(weights.feature_weights(batch.buckets), weights.chain)
    for form in (weights, served):
        sums = {"tokens": form.sums(tokens), "contexts": form.sums(contexts)}
        scores = scores_of(batch.segments, form.chain, **sums)
        np.testing.assert_allclose(scores.emissions, from_batch.emissions, atol=0.05)
    assert served.sums(np.full((3, 4), 1 << 12, dtype=np.int32)).tolist() == np.zeros((3, TAGS)).tolist()


def test_short_words_have_unused_places() -> None:
    docs = [NLP.make_doc("a b")]
    featurizer = TokenFeaturizer()
    tokens = featurizer(docs, cut_into_segments([2], max_tokens=8)).tokens
    assert (tokens == featurizer.no_bucket).any()


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
