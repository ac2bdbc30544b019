import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc

from karen_learner.analysis.analyses import linguistic_features, surface_features
from karen_learner.records import Analysis

ENGLISH = spacy.blank("en")


def features(text: str) -> dict:
    return linguistic_features(ENGLISH(text))


def test_an_ordinary_text():
    assert features("The cats were NOT running. Why?") == pytest.approx(
        {
            "chars": 31,
            "sentences": 2,
            "question": True,
            "exclamation": False,
            "uppercase_ratio": 5 / 24,
            "emoji": 0,
            "tokens": 8,
            "mean_token_length": 26 / 8,
            "type_token_ratio": 1.0,
            "negation": True,
            "lemma_ratio": 1.0,
            "inflected_ratio": 3 / 8,
            "mean_log_prob": -6.5,
            "rare_ratio": 0.0,
        },
        abs=0.7,
    )


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("what is my balance", True),
        ("is my bill wrong", True),
        ("don't you have that", True),
        ("can i pay later", True),
        ("you said so?", True),
        ("do not call me", False),
        ("do it now", False),
        ("my balance is wrong", False),
        ("have the bill sent", False),
        ("is", False),
    ],
)
def test_questions(text, question):
    assert features(text)["question"] is question


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("hello", 1),
        ("hello.", 1),
        ("One. Two! Three", 3),
        ("Wait... what?!", 2),
        ("", 0),
        ("at 3.50 dollars", 1),
    ],
)
def test_sentences_are_estimated(text, sentences):
    assert surface_features(text)["sentences"] == sentences


def test_negation_emoji_and_case():
    assert features("I don't know")["negation"] is True
    assert features("I know")["negation"] is False
    assert features("great 😀👍 ☀")["emoji"] == 3
    assert features("HELP me")["uppercase_ratio"] == pytest.approx(4 / 6)
    assert features("ÄRGER über")["uppercase_ratio"] == pytest.approx(5 / 9)
    assert features("123 !")["uppercase_ratio"] == 0.0
    assert features("no way!")["exclamation"] is True


def test_an_empty_doc():
    empty = linguistic_features(Doc(ENGLISH.vocab))
    assert empty["tokens"] == empty["chars"] == empty["sentences"] == 0
    assert "mean_log_prob" not in empty


def test_rare_words_have_lower_probabilities():
    common, rare = features("what is the time"), features("zymurgical quodlibets obnubilate")
    assert common["rare_ratio"] == 0.0
    assert rare["rare_ratio"] == 1.0
    assert rare["mean_log_prob"] < common["mean_log_prob"] < 0


def test_lemmas_of_the_pipeline_have_priority():
    words = ["the", "glorps", "glorped"]
    doc = Doc(ENGLISH.vocab, words=words, lemmas=["the", "glorp", "glorp"])
    assert linguistic_features(doc)["lemma_ratio"] == pytest.approx(2 / 3)
    assert linguistic_features(doc)["inflected_ratio"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("language", ["xx", "hu", "fi", "is"])
def test_a_language_without_tables_lacks_their_features(language):
    found = linguistic_features(spacy.blank(language)("ez egy szöveg"))
    assert found["tokens"] == 3
    assert "mean_log_prob" not in found
    assert "lemma_ratio" not in found


@given(st.text(max_size=200))
def test_the_features_of_any_text_fit_into_an_analysis(text):
    found = linguistic_features(ENGLISH(text), text=text)
    Analysis(
        intent=None, intent_confidence=0, sentiment=None, sentiment_confidence=0, linguistic_features=found
    )
    for name, value in found.items():
        if name.endswith("_ratio"):
            assert 0.0 <= value <= 1.0
    assert found["tokens"] == len(ENGLISH(text))
