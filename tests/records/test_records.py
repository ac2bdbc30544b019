"""Records: frozen, without unknown keys, readable by key, and unchanged by a round trip through JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from karen_learner import records
from karen_learner.records import (
    Analysis,
    Entity,
    EntitySpan,
    GateCheck,
    LabelledText,
    Record,
    UserFeedback,
    ValidationResult,
    Verdict,
)

KINDS = [kind for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, Record)]

text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
scores = st.floats(0, 1)
spans = st.builds(
    lambda start, length, label: EntitySpan(start=start, end=start + length, label=label),
    st.integers(0, 1000),
    st.integers(1, 50),
    text,
)
feedback = st.builds(
    UserFeedback,
    satisfaction_score=st.none() | scores,
    response_quality=st.none() | scores,
    corrected_intent=st.none() | text,
    corrected_sentiment=st.none() | text,
    corrected_entities=st.none() | st.lists(spans, max_size=3).map(tuple),
    consent=st.none() | st.booleans(),
    comment=st.none() | text,
)
analyses = st.builds(
    Analysis,
    intent=st.none() | text,
    intent_confidence=scores,
    sentiment=st.none() | text,
    sentiment_confidence=scores,
    entities=st.lists(
        st.builds(Entity, start=st.integers(0), end=st.integers(0), label=text, text=text), max_size=3
    ).map(tuple),
    linguistic_features=st.dictionaries(text, st.booleans() | st.integers() | text, max_size=4),
)
labelled = st.builds(
    LabelledText,
    text=text,
    intent=st.none() | text,
    sentiment=st.none() | text,
    entities=st.none() | st.lists(spans, max_size=3).map(tuple),
)


@pytest.mark.parametrize("kind", KINDS)
def test_records_are_frozen_and_forbid_extras(kind: type[Record]) -> None:
    assert kind.model_config["frozen"] is True
    assert kind.model_config["extra"] == "forbid"
    assert kind.__doc__


def test_a_record_is_frozen_and_refuses_unknown_keys() -> None:
    feedback = UserFeedback(satisfaction_score=0.5)
    with pytest.raises(ValidationError):
        feedback.satisfaction_score = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="satisfaction"):
        UserFeedback.model_validate({"satisfaction": 0.5})


@given(st.one_of(feedback, analyses, labelled, spans))
def test_to_dict_is_json_and_restores_the_record(record: Record) -> None:
    plain = json.loads(json.dumps(record.to_dict()))
    assert type(record).model_validate(plain) == record
    assert type(record).model_validate_json(record.model_dump_json()) == record


# Feedback -------------------------------------------------------------------------------------


@given(feedback, feedback)
def test_later_feedback_overwrites_earlier_feedback(earlier: UserFeedback, later: UserFeedback) -> None:
    merged = earlier.merged_with(later)
    for name in UserFeedback.model_fields:
        before, after = getattr(earlier, name), getattr(later, name)
        assert getattr(merged, name) == (before if after is None else after)


@given(feedback)
def test_merging_with_empty_or_equal_feedback_changes_nothing(feedback: UserFeedback) -> None:
    assert feedback.merged_with(UserFeedback()) == feedback
    assert UserFeedback().merged_with(feedback) == feedback
    assert feedback.merged_with(feedback) == feedback


@given(feedback, feedback, feedback)
def test_merging_is_associative(a: UserFeedback, b: UserFeedback, c: UserFeedback) -> None:
    assert a.merged_with(b).merged_with(c) == a.merged_with(b.merged_with(c))


def test_entities_none_is_unknown_and_empty_means_no_entities() -> None:
    none_here = UserFeedback(corrected_entities=())
    assert none_here.is_correction
    assert not UserFeedback().is_correction
    assert UserFeedback(corrected_entities=((0, 4, "place"),)).merged_with(none_here) == none_here  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("feedback", "error"),
    [
        ({}, False),
        ({"satisfaction_score": 0.5}, False),
        ({"satisfaction_score": 0.49}, True),
        ({"response_quality": 0.0}, True),
        ({"corrected_intent": "travel"}, False),
        ({"corrected_intent": "balance"}, True),
        ({"corrected_sentiment": "negative"}, True),
        ({"corrected_entities": [[0, 4, "place"]]}, False),
        ({"corrected_entities": []}, True),
        ({"corrected_entities": [[0, 4, "person"]]}, True),
    ],
)
def test_reports_error(feedback: dict[str, Any], error: bool) -> None:
    found = (Entity(start=0, end=4, label="place", text="Rome"),)
    judged = UserFeedback.model_validate(feedback).reports_error(
        intent="travel", sentiment="neutral", entities=found
    )
    assert judged is error


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan"), float("inf"), "a lot"])
def test_scores_are_between_zero_and_one(score: Any) -> None:
    with pytest.raises(ValidationError):
        UserFeedback(satisfaction_score=score)


@pytest.mark.parametrize("span", [(3, 3, "x"), (4, 2, "x"), (-1, 2, "x"), (0, 2, ""), (0, 2, "x" * 201)])
def test_spans_are_ordered_and_labelled(span: tuple[int, int, str]) -> None:
    with pytest.raises(ValidationError):
        LabelledText(text="a text", entities=(span,))  # type: ignore[arg-type]


# Others ---------------------------------------------------------------------------------------


def test_tasks_are_those_with_a_label() -> None:
    assert LabelledText(text="x").tasks == ()
    assert LabelledText(text="x", sentiment="good", entities=()).tasks == ("sentiment", "entities")


def test_task_score_finds_the_one_score_of_a_task() -> None:
    result = ValidationResult(
        accuracy=0.5, precision=None, recall=None, f1_score=None, intent_accuracy=0.1,
        sentiment_accuracy=0.2, entity_accuracy=None, passed_threshold=False,
    )  # fmt: skip
    assert [result.task_score(task) for task in records.TASKS] == [0.1, 0.2, None]


def test_the_summary_of_a_verdict_lists_failed_checks_or_else_all() -> None:
    good = GateCheck(name="a", passed=True, detail="fine")
    bad = GateCheck(name="b", passed=False, detail="worse")
    rejected = Verdict(accepted=False, harmful=True, improved=(), checks=(good, bad))
    assert rejected.summary == "worse"
    assert rejected.model_copy(update={"checks": (good, good)}).summary == "fine; fine"


def test_a_record_has_keys_like_a_dict() -> None:
    check = GateCheck(name="intent", passed=True, detail="no worse")
    verdict = Verdict(accepted=True, harmful=False, improved=("intent",), checks=(check,))
    assert verdict["checks"][0]["passed"] is True
    assert verdict.get("accepted") is True
    assert verdict.get("unknown", 7) == 7
    assert "accepted" in verdict
    assert "unknown" not in verdict
    assert "summary" not in verdict  # a property is no field
    assert list(verdict.keys())[:4] == ["accepted", "harmful", "improved", "checks"]
    assert dict(verdict) == {name: getattr(verdict, name) for name in Verdict.model_fields}
    assert {**check} == dict(check)
    assert {**check}["detail"] == "no worse"
    with pytest.raises(KeyError, match="unknown"):
        verdict["unknown"]


def test_an_error_of_validation_quotes_no_text() -> None:
    with pytest.raises(ValidationError) as raised:
        UserFeedback(comment="my secret " * 2000)
    assert "secret" not in str(raised.value)
