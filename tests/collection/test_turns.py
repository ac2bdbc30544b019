from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.collection.turns import (
    CharacterSanitizer,
    check_time,
    complete_turn,
    draft_turn,
    parse_feedback,
)
from karen_learner.errors import InvalidInput
from karen_learner.records import Analysis, Entity, UserFeedback, check_id, utc_now
from karen_learner.settings import load_settings

LIMITS = load_settings(environment={}).analysis
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
BOSTON = Entity(start=3, end=9, label="CITY", text="Boston")
ANALYSIS = Analysis(
    intent="travel",
    intent_confidence=0.9,
    sentiment="neutral",
    sentiment_confidence=0.6,
    entities=(BOSTON,),
    linguistic_features={"tokens": 2},
    model_version="v1",
)


def draft(**changes):
    given_values = {"tenant_id": "t", "user_text": "to Boston", "assistant_response": "ok", "user_id": "u"}
    return draft_turn(**{**given_values, **changes}, limits=LIMITS, sanitizer=CharacterSanitizer())


def test_a_complete_turn():
    moment = datetime(2024, 5, 6, 7, tzinfo=timezone(timedelta(hours=2)))
    made = draft(
        conversation_id="c",
        turn_id="x",
        occurred_at=moment,
        user_feedback={"satisfaction_score": 0.9, "response_quality": 0.8},
    )
    turn = complete_turn(made, ANALYSIS, persona="guide")
    assert turn.metadata.to_dict() == {
        "conversation_id": "c",
        "turn_id": "x",
        "tenant_id": "t",
        "user_id": "u",
        "intent_detected": "travel",
        "intent_confidence": 0.9,
        "sentiment_detected": "neutral",
        "sentiment_confidence": 0.6,
        "persona_selected": "guide",
        "user_satisfaction": 0.9,
        "response_quality": 0.8,
        "entities_extracted": [["Boston", "CITY"]],
        "linguistic_features": {"tokens": 2},
        "feedback_provided": True,
        "correction_needed": False,
        "degraded": False,
        "model_version": "v1",
        "occurred_at": "2024-05-06T05:00:00Z",
    }
    assert (turn.user_text, turn.assistant_response, turn.entities) == ("to Boston", "ok", (BOSTON,))


def test_missing_ids_are_generated_and_a_missing_time_is_now():
    before = utc_now()
    one, two = draft(), draft()
    assert one.turn_id != two.turn_id
    assert one.conversation_id != two.conversation_id
    assert len(one.turn_id) == 32
    assert before <= one.occurred_at <= utc_now()
    assert one.feedback is None


def test_a_turn_with_refused_consent_has_no_content():
    made = draft(
        user_feedback={
            "consent": False,
            "comment": "my words",
            "corrected_intent": "other",
            "satisfaction_score": 0.2,
            "corrected_entities": [[3, 9, "PLACE"]],
        }
    )
    turn = complete_turn(made, ANALYSIS, persona="guide")
    assert turn.user_text is None
    assert turn.assistant_response is None
    assert turn.entities == turn.metadata.entities_extracted == ()
    assert turn.metadata.linguistic_features == {}
    assert turn.feedback == UserFeedback(satisfaction_score=0.2, consent=False)
    assert turn.metadata.correction_needed
    assert turn.metadata.user_satisfaction == 0.2
    assert "words" not in turn.model_dump_json()
    assert "Boston" not in turn.model_dump_json()


@pytest.mark.parametrize(
    ("feedback", "needed"),
    [
        (None, False),
        ({}, False),
        ({"satisfaction_score": 0.5, "response_quality": 0.5}, False),
        ({"satisfaction_score": 0.49}, True),
        ({"response_quality": 0.0}, True),
        ({"corrected_intent": "travel", "corrected_sentiment": "neutral"}, False),
        ({"corrected_intent": "billing"}, True),
        ({"corrected_sentiment": "negative"}, True),
        ({"corrected_entities": [[3, 9, "CITY"]]}, False),
        ({"corrected_entities": [[3, 9, "PLACE"]]}, True),
        ({"corrected_entities": []}, True),
        ({"consent": True, "comment": "fine"}, False),
    ],
)
def test_correction_needed(feedback, needed):
    turn = complete_turn(draft(user_feedback=feedback), ANALYSIS, persona="guide")
    assert turn.metadata.correction_needed is needed


@pytest.mark.parametrize(
    ("feedback", "message"),
    [
        ({"satisfaction": 0.9}, "unknown key 'satisfaction': did you mean 'satisfaction_score'"),
        ({"satisfaction_score": 1.5}, "satisfaction_score.*1.5"),
        ({"satisfaction_score": -0.1}, "satisfaction_score"),
        ({"satisfaction_score": float("nan")}, "satisfaction_score"),
        ({"response_quality": "good"}, "response_quality.*'good'"),
        ({"corrected_intent": ""}, "corrected_intent"),
        ({"corrected_intent": 3}, "corrected_intent.*3"),
        ({"corrected_intent": "a\x00b"}, "control characters"),
        ({"corrected_entities": [[5, 2, "X"]]}, "not after its start"),
        ({"corrected_entities": [[0, 2]]}, "corrected_entities"),
        (
            {"corrected_entities": [[3, 99, "CITY"]]},
            "'CITY' at 3-99 ends after the text, which has 9 characters",
        ),
        ({"corrected_entities": [[3, 9, "CITY"], [0, 4, "X"]]}, "'CITY'.*overlaps"),
        ({"consent": "perhaps"}, "consent"),
        ({3: 4}, "user_feedback"),
        ([1], "must be a mapping, not list"),
        ("good", "must be a mapping, not str"),
    ],
)
def test_bad_feedback_is_refused_with_the_key_and_the_value(feedback, message):
    with pytest.raises(InvalidInput, match=message):
        draft(user_feedback=feedback)


def test_labels_of_feedback_are_composed_and_stripped():
    feedback = parse_feedback(
        {
            "corrected_intent": " cafe\u0301",
            "corrected_entities": [{"start": 0, "end": 2, "label": "\u200bX "}],
        }
    )
    assert feedback.corrected_intent == "caf\u00e9"
    assert feedback.corrected_entities[0].label == "X"
    with pytest.raises(InvalidInput, match="is blank"):
        parse_feedback({"corrected_intent": "\u200b"})


def test_corrected_entities_of_a_browser_are_converted_and_checked():
    spans = [{"start": 6, "end": 10, "label": "CITY", "text": "Rome"}]
    feedback = {"corrected_entities": spans, "offsets": "utf-16"}
    found = draft(user_text="\U0001f600 in Rome", user_feedback=feedback).feedback
    assert [(span.start, span.end) for span in found.corrected_entities] == [(5, 9)]
    with pytest.raises(InvalidInput, match="offsets count utf-16"):
        draft(user_text="\U0001f600 in Rome", user_feedback={"corrected_entities": spans})
    with pytest.raises(InvalidInput, match="is none of characters"):
        draft(user_feedback={"offsets": "pixels"})


def test_a_misaligned_entity_is_accepted():
    assert draft(user_feedback={"corrected_entities": [[3, 6, "CITY"]]}).feedback.is_correction


def test_control_characters_of_the_comment_are_replaced():
    assert parse_feedback({"comment": "a\x00\ud800b"}).comment == "a\ufffd\ufffdb"


@pytest.mark.parametrize("what", ["tenant_id", "user_id", "turn_id", "conversation_id"])
@pytest.mark.parametrize("value", ["", "x" * 1001, "a\x00b", "\ud800", 5, b"id"])
def test_bad_ids_are_refused(what, value):
    with pytest.raises(InvalidInput, match=what):
        draft(**{what: value})


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=1000)
)
def test_any_other_id_is_unchanged(value):
    assert check_id(value, "user_id") == value


def test_bad_times_are_refused():
    with pytest.raises(InvalidInput, match="has no time zone"):
        check_time(datetime(2024, 1, 1), NOW)
    with pytest.raises(InvalidInput, match="must be a datetime, not str"):
        check_time("2024-01-01", NOW)
    with pytest.raises(InvalidInput, match="out of range"):
        check_time(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), NOW)


def test_a_time_of_the_future_counts_as_now():
    assert check_time(datetime(9999, 1, 1, tzinfo=timezone.utc), NOW) == NOW
    assert check_time(NOW - timedelta(days=1), NOW) == NOW - timedelta(days=1)


def test_bad_texts_are_refused_and_unfit_characters_replaced():
    with pytest.raises(InvalidInput, match="user_text is empty"):
        draft(user_text="  ")
    with pytest.raises(InvalidInput, match=r"assistant_response.*analysis\.max_response_chars"):
        draft(assistant_response="x" * (LIMITS.max_response_chars + 1))
    with pytest.raises(InvalidInput, match="assistant_response must be a text"):
        draft(assistant_response=None)
    assert draft(assistant_response="").assistant_response == ""
    assert draft(assistant_response="a\x00").assistant_response == "a\ufffd"
