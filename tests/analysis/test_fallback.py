import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.analysis.fallback import MAX_CONFIDENCE, analyze_by_rules, answer_without_model


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("Hello there", "greeting"),
        ("good morning!", "greeting"),
        ("thanks a lot", "thanks"),
        ("Thank you, bye", "thanks"),
        ("bye", "goodbye"),
        ("What's my balance?", "question"),
        ("when does it open", "question"),
        ("please cancel my plan", "request"),
        ("Hi, can you help me?", "request"),
        ("show my bill", "request"),
        ("it does not work", "complaint"),
        ("this is terrible, a really awful mess", "complaint"),
        ("yes", "affirm"),
        ("no thanks", "deny"),
        ("the weather was fair in the mountains", None),
        ("???", "question"),
        ("12345", None),
    ],
)
def test_dialog_acts(text, intent):
    assert analyze_by_rules(text).intent == intent


@pytest.mark.parametrize(
    ("text", "sentiment"),
    [
        ("I love it", "positive"),
        ("I do not love it", "negative"),
        ("it isn't bad", "positive"),
        ("the service is terrible", "negative"),
        ("the table is round", "neutral"),
        ("good but slow", "neutral"),
        ("good but really slow", "negative"),
        ("I don’t love it", "negative"),
        ("not that I care for tables but this is great", "positive"),
    ],
)
def test_sentiment(text, sentiment):
    assert analyze_by_rules(text).sentiment == sentiment


@pytest.mark.parametrize(
    ("text", "entities"),
    [
        ("mail me at jo.doe+x@mail.example.org.", [("jo.doe+x@mail.example.org", "EMAIL")]),
        ("see https://example.org/a?b=1, please", [("https://example.org/a?b=1", "URL")]),
        ("it cost $45.50 or 30 euros", [("$45.50", "MONEY"), ("30 euros", "MONEY")]),
        (
            "on 2024-05-06 or 6/5/2024 at 10:30 pm",
            [("2024-05-06", "DATE"), ("6/5/2024", "DATE"), ("10:30 pm", "TIME")],
        ),
        ("March 5th, or tomorrow", [("March 5th", "DATE"), ("tomorrow", "DATE")]),
        ("I may march on", []),
        ("I have 3 phones and 1,250.5 points", [("3", "NUMBER"), ("1,250.5", "NUMBER")]),
    ],
)
def test_entities_with_their_offsets(text, entities):
    found = analyze_by_rules(text).entities
    assert [(entity.text, entity.label) for entity in found] == entities
    assert all(text[entity.start : entity.end] == entity.text for entity in found)


@given(st.text(st.characters()))
def test_any_text_has_a_degraded_analysis(text):
    analysis = analyze_by_rules(text)
    assert analysis.degraded
    assert analysis.model_version is None
    assert max(analysis.intent_confidence, analysis.sentiment_confidence) <= MAX_CONFIDENCE
    analysis.model_dump_json()


@pytest.mark.parametrize("unit", ["a", "1", "1,", "a.", "a@", "a@a.", "$1", "not ", "-", "'a", "é "])
async def test_a_megabyte_of_anything_takes_linear_time(unit):
    """With quadratic time, this test would take hours."""
    text = (unit * 1_000_000)[:1_000_000]
    assert (await answer_without_model(text, "rules")).linguistic_features["chars"] == 1_000_000
