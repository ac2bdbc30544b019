"""Features of texts: numbers, independence of the batch, hostile texts."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, combinations, pairwise

import numpy as np
import pytest
import spacy
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.strings import get_string_id

from karen_learner.components.lexical.clusters import WordClusters, word_clusters
from karen_learner.components.lexical.words import (
    CACHED_FEATURES,
    FeatureCache,
    character_ngrams,
    combine,
    remember_texts,
    salted,
    word_form,
)
from karen_learner.components.textcat.features import (
    CHARACTERS,
    CLUSTERS,
    MAX_WORD_CHARS,
    PAIRS,
    WORDS,
    TextFeatures,
    TextNgrams,
    text_cache,
    word_cache,
)
from karen_learner.concurrency import short_switch_interval

NLP: Language = spacy.blank("en")
BITS = 28


def ngrams(char_sizes: tuple[int, ...] = (2, 3), max_words: int = 50, pair_words: int = 8) -> TextNgrams:
    return TextNgrams(char_sizes=char_sizes, max_words=max_words, pair_words=pair_words, bits=BITS)


def clusters_of(*texts: str) -> list[list[int]]:
    make = TextNgrams(char_sizes=(2,), max_words=50, pair_words=8, bits=BITS, clusters=word_clusters("en"))
    features = make([NLP.make_doc(text) for text in texts])
    return [of_view(features, CLUSTERS, position) for position in range(len(texts))]


def of_view(features: TextFeatures, view: int, text: int = 0) -> list[int]:
    """Buckets of the features of a view, with repetitions."""
    found = (features.views == view) & (features.texts == text)
    occurrences = np.rint(np.exp(features.values[found] - 1.0)).astype(int)
    return np.repeat(features.buckets[found], occurrences).tolist()


def buckets(hashes: list[str]) -> list[int]:
    return sorted(int(one, 16) >> (64 - BITS) for one in hashes)


def test_number_of_features_of_a_text() -> None:
    features = ngrams()([NLP.make_doc("to be or not to be")])
    assert len(of_view(features, WORDS)) == 6 + 7
    assert len(set(of_view(features, WORDS))) == 4 + 6  # "to be" twice
    assert len(of_view(features, PAIRS)) == 4 * 3 // 2
    # <to>: 3 bigrams, 2 trigrams; <not>: 4 bigrams, 3 trigrams
    assert len(of_view(features, CHARACTERS)) == 5 * (3 + 2) + (4 + 3)


def test_features_do_not_depend_on_the_batch() -> None:
    texts = ["hello there", "", "a b a c", "Hello There", "x"]
    make = ngrams()
    together = make([NLP.make_doc(text) for text in texts])
    for position, text in enumerate(texts):
        alone = make([NLP.make_doc(text)])
        for view in (WORDS, CHARACTERS, PAIRS):
            assert of_view(together, view, position) == of_view(alone, view)
        assert together.fingerprints[position] == alone.fingerprints[0]


def test_pairs_ignore_case_and_order() -> None:
    make = ngrams()
    one, other = make([NLP.make_doc("red green blue")]), make([NLP.make_doc("BLUE red green")])
    assert of_view(one, PAIRS) == of_view(other, PAIRS)
    assert of_view(one, WORDS) != of_view(other, WORDS)


def test_neighbours_have_an_order_and_borders() -> None:
    make = ngrams(char_sizes=())
    one, other = (set(of_view(make([NLP.make_doc(text)]), WORDS)) for text in ("a b", "b a"))
    assert len(one) == len(other) == 5
    assert len(one & other) == 2  # two words; the three pairs differ


def test_similar_words_share_cluster_features() -> None:
    seven, eight, london = clusters_of("book seven seats", "BOOK Eight seats", "book london seats")
    assert len(seven) == 3 * 5 + 4 * 2
    assert seven == eight  # they are in one cluster
    assert 0 < len(set(seven) & set(london)) < len(set(seven))


def test_an_unknown_word_is_its_own_cluster() -> None:
    known, one, other = clusters_of("seven", "qwrtzx", "xztrwq")
    assert len(known) == len(one) == 5 + 2 * 2
    assert not set(one) & set(other)


def test_text_borders_have_no_cluster() -> None:
    for word, end in ("vice", 1), ("a.m.", 2):
        cluster = int(word_clusters("en").values_of(NLP.make_doc(word).to_array("LOWER"))[0])
        assert cluster & 63 == end  # its lowest bits equal a border mark
        once, twice = clusters_of(word, f"{word} {word}")
        assert len(set(twice)) == len(set(once)) + 2


def test_other_languages_have_no_cluster_features() -> None:
    make = TextNgrams(char_sizes=(2,), max_words=50, pair_words=8, bits=BITS, clusters=word_clusters("xx"))
    assert of_view(make([NLP.make_doc("book seven seats")]), CLUSTERS) == []


def test_feature_hashes_are_stable() -> None:
    """Saved weights depend on these hashes."""
    features = ngrams()([NLP.make_doc("hi you")])
    assert set(buckets(FROZEN_WORDS)) < set(of_view(features, WORDS))
    [first] = character_ngrams(["hi"], sizes=(2,), max_chars=9, salt=3)
    assert [hex(value) for value in first.tolist()] == FROZEN_CHARACTERS


def test_cluster_hashes_are_stable() -> None:
    """Saved weights depend on these hashes."""
    known = NLP.make_doc("hi").to_array("LOWER")
    clusters = WordClusters(known, np.array([0b1011_0110_1101], dtype=np.uint32))
    make = TextNgrams(char_sizes=(), max_words=9, pair_words=9, bits=BITS, clusters=clusters)
    features = make([NLP.make_doc("hi you")])
    assert of_view(features, CLUSTERS) == buckets(FROZEN_CLUSTERS)


FROZEN_CLUSTERS = [
    "0x5d07c010503b5995",
    "0x3862b7209a8a02aa",
    "0x19d9906d81d29bab",
    "0xdeaf7ee876409a26",
    "0xd29e43b6b47f174c",
    "0x31f65030cdce73bc",
    "0x2e6aacb92d67751c",
    "0x2d66956a63489192",
    "0x8af8cb5e41f70831",
    "0xc69b21d5d45d3727",
    "0x33f7b3343548904d",
    "0x302edc2bf64206c1",
    "0x6b6d22756d610099",
    "0x129ca4e9ee314014",
    "0xb2242de1cf299942",
    "0x1ef3f77ce847664a",
]
FROZEN_WORDS = ["0xf6b03b898689b479", "0xbf13ab9fbeed9c34"]
FROZEN_CHARACTERS = ["0x14f08b57018b5f49", "0x35dc756c60493428", "0xff2d693b2b58fade"]


def by_definition(words: Sequence[str], clusters: WordClusters) -> list[int]:
    """Buckets of a text, feature by feature."""
    hashes = [np.array([get_string_id(word)], dtype=np.uint64) for word in words]
    start, end = (np.array([mark], dtype=np.uint64) for mark in (1, 2))
    found = [salted(word, salt=1) for word in hashes]
    found += character_ngrams(words, sizes=(2, 3), max_chars=40, salt=3)
    distinct = sorted({int(word[0]): word for word in hashes}.items())
    found += [combine(one, other, salt=4) for (_, one), (_, other) in combinations(distinct, 2)]

    def prefix(word: np.ndarray, bits: int) -> np.ndarray:
        [path] = clusters.values_of(word).tolist()
        return np.array([path & ((1 << bits) - 1) | 1 << 32], dtype=np.uint64) if path else word

    found += [salted(prefix(word, bits), salt=64 + bits) for word in hashes for bits in (4, 6, 8, 12, 16)]
    families = [(hashes, 2), *([[prefix(word, bits) for word in hashes], 128 + bits] for bits in (6, 12))]
    for members, salt in families:
        found += [combine(*pair, salt=salt) for pair in pairwise([start, *members, end])]
    return sorted(int(value) >> (64 - BITS) for array in found for value in array)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["book", "seven", "London", "qwrtz", "a", "b", "the"]), max_size=8),
        max_size=4,
    )
)
def test_features_are_those_of_the_definition(texts: list[list[str]]) -> None:
    """The batch computes all features of a kind together, and caches parts of words."""
    clusters = word_clusters("en")
    features = replace(ngrams(), clusters=clusters)([spacy.tokens.Doc(NLP.vocab, words) for words in texts])
    for text, words in enumerate(texts):
        views = (of_view(features, view, text) for view in (WORDS, CHARACTERS, PAIRS, CLUSTERS))
        found = list(chain(*views))
        lower = [word.lower() for word in words]
        assert sorted(found) == (by_definition(lower, clusters) if words else [])


def test_long_texts_have_a_bounded_number_of_features() -> None:
    make = ngrams()
    long = make([NLP.make_doc("word " * 30_000 + "x" * 100_000)])
    assert len(of_view(long, WORDS)) == 50 + 51
    many = make([NLP.make_doc(" ".join(f"w{i}" for i in range(500)))])
    assert len(of_view(many, PAIRS)) == 8 * 7 // 2
    one = make([NLP.make_doc("x" * 1_000_000)])
    assert len(of_view(one, CHARACTERS)) == (MAX_WORD_CHARS + 1) + MAX_WORD_CHARS


def test_without_docs_or_words_there_are_no_features() -> None:
    assert len(ngrams()([]).buckets) == 0
    assert len(ngrams()([NLP.make_doc(""), NLP.make_doc("")]).buckets) == 0
    assert len(ngrams(char_sizes=())([NLP.make_doc("a b")]).buckets) == 2 + 3 + 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=5))
@example(["\u00ad", "\u3000", " ", "a\u00ad"])
def test_any_text_of_visible_words_has_features(texts: list[str]) -> None:
    docs = [NLP.make_doc(text) for text in texts]
    features = ngrams()(docs)
    assert len(features.buckets) == len(features.texts) == len(features.views) == features.lengths.sum()
    visible = {i for i, doc in enumerate(docs) if any(word_form(token.lower_) for token in doc)}
    assert set(features.texts.tolist()) == visible


@pytest.mark.parametrize("word", ["\ud800", "a\udfffb", "", "\U0001f600", "语言", "ß" * 90])
def test_any_word_has_character_ngrams(word: str) -> None:
    length = min(len(word), 40) + 2
    [hashes] = character_ngrams([word], sizes=(2, 5), max_chars=40, salt=1)
    assert len(hashes) == length - 1 + max(0, length - 4)


@given(st.lists(st.text(st.characters(), max_size=50), max_size=6))
def test_n_grams_of_a_word_do_not_depend_on_the_batch(words: list[str]) -> None:
    together = character_ngrams(words, sizes=(2, 3, 9), max_chars=40, salt=1)
    assert len(together) == len(words)
    for word, hashes in zip(words, together, strict=True):
        [alone] = character_ngrams([word], sizes=(2, 3, 9), max_chars=40, salt=1)
        np.testing.assert_array_equal(hashes, alone)


def compute_numbers(keys: Sequence[int]) -> list[np.ndarray]:
    return [np.array([key], dtype=np.uint64) for key in keys]


def test_the_cache_is_bounded_and_right() -> None:
    calls: list[int] = []

    def compute(keys: Sequence[int]) -> list[np.ndarray]:
        calls.extend(keys)
        return compute_numbers(keys)

    cache = FeatureCache[int, np.ndarray](capacity=4)
    for key in (1, 2, 1, 3, 4, 5, 1):
        assert cache.get([key], compute)[0].tolist() == [key]
        assert len(cache) <= 4
    assert calls == [1, 2, 3, 4, 5, 1]


@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=40), st.integers(2, 40))
def test_the_capacity_is_that_of_all_sizes(calls: list[list[int]], capacity: int) -> None:
    cache = FeatureCache[int, list[int]](capacity=capacity, size_of=len)
    for keys in calls:
        found = cache.get(keys, lambda missing: [[key] * key for key in missing])
        assert found == [[key] * key for key in keys]
        assert cache.size <= capacity


def test_models_with_equal_options_share_caches() -> None:
    one, other, different = ngrams((2, 3)), ngrams((2, 3)), ngrams((4,))
    for shared in (text_cache, word_cache):
        assert shared(one) is shared(other)
        assert shared(one) is not shared(different)
    assert of_view(different([NLP.make_doc("wordy")]), CHARACTERS) != of_view(
        one([NLP.make_doc("wordy")]), CHARACTERS
    )


def test_clusters_distinguish_caches() -> None:
    plain = ngrams()
    clustered = replace(plain, clusters=word_clusters("en"))
    assert text_cache(plain) is text_cache(replace(plain, clusters=word_clusters("xx")))
    assert text_cache(plain) is not text_cache(clustered)
    doc = NLP.make_doc("book seven seats")
    assert of_view(plain([doc]), CLUSTERS) == []
    assert len(of_view(clustered([doc]), CLUSTERS)) == 3 * 5 + 4 * 2


def test_features_follow_a_change_of_the_document() -> None:
    """A document is known by its words, not by its identity."""
    make = ngrams()
    doc = NLP.make_doc("one two three")
    before = of_view(make([doc]), WORDS)
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[:2])
    assert of_view(make([doc]), WORDS) == of_view(
        make([spacy.tokens.Doc(doc.vocab, [*map(str, doc)])]), WORDS
    )
    assert of_view(make([doc]), WORDS) != before


def test_a_small_cache_of_texts_gives_the_same_features() -> None:
    docs = [NLP.make_doc(f"text number {number} of many") for number in range(40)]
    expected = ngrams((5,))(docs)
    remember_texts(50)
    try:
        small = ngrams((5, 6))
        assert text_cache(small).capacity == 50
    finally:
        remember_texts(CACHED_FEATURES)
    small = replace(small, char_sizes=(5, 6))
    for _ in range(2):
        found = small(docs)
        for text in range(len(docs)):
            assert of_view(found, WORDS, text) == of_view(expected, WORDS, text)


def test_threads_can_share_a_cache() -> None:
    """A small cache evicts all the time."""
    cache = FeatureCache[int, np.ndarray](capacity=4)

    def ask(seed: int) -> bool:
        rng = random.Random(seed)
        keys = [rng.randrange(12) for _ in range(5_000)]
        found = [int(cache.get([key], compute_numbers)[0][0]) for key in keys]
        return found == keys

    with short_switch_interval(), ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask, range(4)))


def test_a_call_with_more_words_than_the_cache_holds() -> None:
    cache = FeatureCache[int, np.ndarray](capacity=4)
    keys = [1, 2, 1, 9, 8, 7, 6, 5]
    assert [int(features[0]) for features in cache.get(keys, compute_numbers)] == keys
    assert 0 < len(cache) <= 4
