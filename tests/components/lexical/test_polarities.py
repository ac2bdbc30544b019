"""Polarities: the lexicon, features of texts, stable hashes."""

from typing import Any

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.strings import get_string_id
from spacy.training import Example

from karen_learner.components.lexical.clusters import WordClusters
from karen_learner.components.lexical.polarities import WordPolarities, word_polarities
from karen_learner.components.textcat.features import MAX_DEGREES, POLARITY, TextFeatures, TextNgrams
from karen_learner.errors import ModelError
from tests.components.text_corpora import SPARSE

NLP = spacy.blank("en")
WORDS = {
    "glad": ("excellent", "lovely", "brilliant", "terrific", "charming", "superb"),
    "cross": ("horrible", "dreadful", "rude", "disgusting", "miserable", "unfair"),
}


def tenths(*words: str) -> list[int]:
    hashes = np.array([get_string_id(word) for word in words], dtype=np.uint64)
    return [int(number) for number in word_polarities("en").values_of(hashes)]


def degrees(*texts: str, **options: Any) -> list[set[int]]:
    """Polarity features of each text."""
    make = ngrams(**options)
    features = make([NLP.make_doc(text) for text in texts])
    return [of_text(features, number) for number in range(len(texts))]


def ngrams(max_words: int = 50, polarities: WordPolarities | None = None) -> TextNgrams:
    table = word_polarities("en") if polarities is None else polarities
    return TextNgrams(char_sizes=(), max_words=max_words, pair_words=8, bits=28, polarities=table)


def of_text(features: TextFeatures, text: int) -> set[int]:
    return set(features.buckets[(features.views == POLARITY) & (features.texts == text)].tolist())


def test_words_and_emoji_are_positive_negative_or_neutral() -> None:
    great, terrible, smile, joy, table = tenths("great", "terrible", ":)", "😂", "table")
    assert great > 20
    assert terrible < -20
    assert smile > 0
    assert joy > 0
    assert table == 0


def test_other_languages_have_none() -> None:
    assert len(word_polarities("de")) == 0
    assert degrees("this is great", polarities=word_polarities("de")) == [set()]


def test_stronger_polarities_include_weaker_ones() -> None:
    weak, strong, none, bad = degrees("okay", "a great love", "a table", "terrible")
    assert weak < strong
    assert len(none) == 1
    assert not none & (strong | bad)
    assert not strong & bad


def test_weak_polarity_is_not_neutral() -> None:
    table = WordPolarities.from_entries({get_string_id("want"): 3, get_string_id("need"): -2})
    weak, neutral = degrees("want need", "so", polarities=table)
    assert weak == set()
    assert len(neutral) == 1


def test_the_lower_case_entry_of_a_word_wins() -> None:
    """The lexicon also has "SOB" with a lower value."""
    assert tenths("sob") == [-10]


@pytest.mark.parametrize("error", [ModuleNotFoundError("no such package"), FileNotFoundError("no such file")])
def test_a_missing_lexicon_is_an_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> None:
        raise error

    word_polarities.cache_clear()
    monkeypatch.setattr("karen_learner.components.lexical.polarities.files", missing)
    with pytest.raises(ModelError, match=r"no such .*word_polarities = false"):
        word_polarities("en")
    assert len(word_polarities("de")) == 0
    monkeypatch.undo()
    assert len(word_polarities("en")) > 7000


def test_good_and_bad_do_not_cancel_out() -> None:
    good, bad, both = degrees("great", "terrible", "great but terrible")
    assert both == good | bad


def test_the_polarity_of_a_text_is_bounded() -> None:
    best, better_still = degrees("great " * 9, "great " * 40)
    assert best == better_still
    assert len(best) == MAX_DEGREES


def test_words_after_the_maximum_are_ignored() -> None:
    assert degrees("a b c great", max_words=3) == degrees("a b c", max_words=3)


def test_features_do_not_depend_on_the_batch() -> None:
    texts = ("great", "", "a table", "terrible, I hate it", "   ", "😂😂")
    assert degrees(*texts) == [degrees(text)[0] for text in texts]
    assert degrees("") == [set()]


def test_polarity_hashes_are_stable() -> None:
    """Saved weights depend on these hashes."""
    table = WordPolarities.from_entries({get_string_id("good"): 19, get_string_id("bad"): -11})
    good, bad, neutral = degrees("good", "bad", "so", polarities=table)
    for found, frozen in ((good, FROZEN_GOOD), (bad, FROZEN_BAD), (neutral, FROZEN_NEUTRAL)):
        assert found == {int(value, 16) >> (64 - 28) for value in frozen}


def pipeline(*, lexicon: bool) -> Language:
    nlp = spacy.blank("en")
    pipe: Any = nlp.add_pipe(
        "karen_textcat", config={"model": {**SPARSE, "word_clusters": False, "word_polarities": lexicon}}
    )
    examples = [
        Example.from_dict(nlp.make_doc(f"that was {word}"), {"cats": {label: 1.0}})
        for label, words in WORDS.items()
        for word in words
    ]
    pipe.initialize(lambda: examples, nlp=nlp)
    for _ in range(5):
        nlp.update(examples)
    return nlp


@pytest.mark.parametrize("lexicon", [True, False])
def test_polarity_classifies_an_untrained_word(lexicon: bool) -> None:
    nlp = pipeline(lexicon=lexicon)
    again = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    for one in (nlp, again):
        scores = [one(text).cats["glad"] for text in ("that was nice", "that was bad")]
        assert (scores[0] > 0.6 > 0.4 > scores[1]) == lexicon


def test_the_lexicon_is_saved_with_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded model does not need the lexicon."""
    nlp = pipeline(lexicon=True)
    expected, data = nlp("that was nice").cats, nlp.to_bytes()
    assert expected["glad"] > expected["cross"]
    empty = WordPolarities()
    monkeypatch.setattr("karen_learner.components.lexical.polarities.word_polarities", lambda _: empty)
    assert spacy.blank("en").from_config(nlp.config).from_bytes(data)("that was nice").cats == pytest.approx(
        expected, abs=0.01
    )


def test_tables_of_different_kinds_are_distinguished() -> None:
    arrays = word_polarities("en").arrays()
    assert len(WordClusters.from_arrays(arrays)) == 0
    assert WordPolarities.from_arrays(arrays) is word_polarities("en")


FROZEN_GOOD = ["0x81e42839edd4288c", "0x9dd7c5dd6b0b4a2d"]
FROZEN_BAD = ["0x3102f01f28278bdc"]
FROZEN_NEUTRAL = ["0x72d25a28d437adea"]
