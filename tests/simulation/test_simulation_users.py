from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.records import LabelledText, UserFeedback
from karen_learner.simulation import FeedbackRates, SimulatedUsers
from karen_learner.simulation.users import Answer, correction, with_wrong_labels, wrong_tasks

LABELS = {"intent": ("a", "b", "c"), "sentiment": ("neg", "pos"), "entities": ("city", "day")}
GOLD = LabelledText(text="to Rome on Monday", intent="a", sentiment="pos", entities=((3, 7, "city"),))
RIGHT = Answer(intent="a", sentiment="pos", entities=(("Rome", "city"),))
WRONG = Answer(intent="b", sentiment="pos", entities=())


def make_users(users: int = 10, seed: int = 0, **rates: float) -> SimulatedUsers:
    return SimulatedUsers(users=users, rates=FeedbackRates(**rates), labels=LABELS, seed=seed)


def reactions(users: SimulatedUsers, answer: Answer, count: int = 4000) -> list[dict[str, object] | None]:
    return [users.react(position, GOLD, answer) for position in range(count)]


def test_wrong_tasks_differ_from_a_known_label() -> None:
    assert wrong_tasks(GOLD, RIGHT) == ()
    assert wrong_tasks(GOLD, WRONG) == ("intent", "entities")
    assert wrong_tasks(LabelledText(text="x", intent="a"), Answer(intent="a", sentiment="pos")) == ()
    assert wrong_tasks(LabelledText(text="x", entities=()), Answer(entities=(("x", "city"),))) == (
        "entities",
    )


def test_a_correction_contains_the_gold_labels() -> None:
    feedback = correction(GOLD, ("intent", "entities"))
    assert feedback == {
        "corrected_intent": "a",
        "corrected_entities": [{"start": 3, "end": 7, "label": "city"}],
    }
    assert correction(LabelledText(text="x", entities=()), ("entities",)) == {"corrected_entities": []}


def test_rates_of_zero_give_no_feedback() -> None:
    users = make_users(correction_rate=0.0, rating_rate=0.0, noise=1.0)
    assert reactions(users, WRONG, 200) == [None] * 200


def test_rates_of_one_without_noise_give_correct_feedback() -> None:
    users = make_users(correction_rate=1.0, rating_rate=1.0)
    for feedback in reactions(users, WRONG, 100):
        assert feedback is not None
        assert feedback["corrected_intent"] == "a"
        assert feedback["corrected_entities"] == [{"start": 3, "end": 7, "label": "city"}]
        assert "corrected_sentiment" not in feedback
        assert feedback["satisfaction_score"] <= 0.2
    for feedback in reactions(users, RIGHT, 100):
        assert feedback is not None
        assert set(feedback) == {"satisfaction_score", "response_quality"}
        assert feedback["satisfaction_score"] >= 0.8


def test_noise_of_one_gives_wrong_feedback() -> None:
    users = make_users(correction_rate=1.0, rating_rate=1.0, noise=1.0)
    for feedback in reactions(users, WRONG, 100):
        assert feedback is not None
        assert feedback["corrected_intent"] in {"b", "c"}
        assert [span["label"] for span in feedback["corrected_entities"]] == ["day"]
        assert feedback["satisfaction_score"] >= 0.8
    for feedback in reactions(users, RIGHT, 100):
        assert feedback is not None
        assert feedback["satisfaction_score"] <= 0.2
        assert len([key for key in feedback if key.startswith("corrected_")]) == 1


@pytest.mark.parametrize(
    ("answer", "seen", "expected"),
    [
        (WRONG, "corrected", 1169),
        (WRONG, "corrected correctly", 1049),
        (WRONG, "rated", 849),
        (WRONG, "rated good", 91),
        (RIGHT, "corrected", 120),
        (RIGHT, "rated", 849),
        (RIGHT, "rated good", 758),
    ],
)
def test_observed_rates_match_the_configured_ones(answer: Answer, seen: str, expected: int) -> None:
    """Exact counts of 4,000 seeded turns with correction rate 0.3, rating rate 0.2 and noise 0.1."""
    given = [
        feedback or {}
        for feedback in reactions(make_users(correction_rate=0.3, rating_rate=0.2, noise=0.1), answer)
    ]
    found = Counter(
        {
            "corrected": sum(any("corrected" in key for key in feedback) for feedback in given),
            "corrected correctly": sum(feedback.get("corrected_intent") == "a" for feedback in given),
            "rated": sum("satisfaction_score" in feedback for feedback in given),
            "rated good": sum(feedback.get("satisfaction_score", 0.0) >= 0.8 for feedback in given),
        }
    )
    assert found[seen] == expected


def test_feedback_depends_on_seed_and_position_only() -> None:
    rates = {"correction_rate": 0.5, "rating_rate": 0.5, "noise": 0.3}
    forward = [make_users(**rates).react(position, GOLD, WRONG) for position in range(50)]
    other = make_users(**rates)
    backward = [other.react(position, GOLD, WRONG) for position in reversed(range(50))]
    assert forward == backward[::-1]
    assert forward != [make_users(seed=1, **rates).react(position, GOLD, WRONG) for position in range(50)]


def test_user_activity_follows_zipf() -> None:
    turns_by_user = Counter(make_users(users=4).user_id(position) for position in range(2500))
    assert set(turns_by_user) == {"user-001", "user-002", "user-003", "user-004"}
    shares = [turns_by_user[f"user-{rank:03d}"] / 2500 for rank in range(1, 5)]
    assert shares == pytest.approx([12 / 25, 6 / 25, 4 / 25, 3 / 25], abs=0.03)


@given(st.integers())
def test_with_wrong_labels_changes_every_task(seed: int) -> None:
    false = with_wrong_labels(GOLD, LABELS, random.Random(seed))
    assert false.text == GOLD.text
    assert false.intent in {"b", "c"}
    assert false.sentiment == "neg"
    assert [(span.start, span.end, span.label) for span in false.entities or ()] == [(3, 7, "day")]


def test_with_wrong_labels_keeps_unknown_and_single_labels() -> None:
    plain = LabelledText(text="hello", intent="a", entities=())
    false = with_wrong_labels(plain, {"intent": ("a",), "entities": ("city",)}, random.Random(0))
    assert (false.intent, false.sentiment) == ("a", None)
    assert [(span.start, span.end, span.label) for span in false.entities or ()] == [(0, 5, "city")]
    assert with_wrong_labels(plain, {"intent": ("a",)}, random.Random(0)) == plain


@given(st.integers(0, 10**6), st.sampled_from([RIGHT, WRONG]), st.floats(0, 1))
def test_every_reaction_is_valid_user_feedback(position: int, answer: Answer, noise: float) -> None:
    feedback = make_users(correction_rate=0.7, rating_rate=0.7, noise=noise).react(position, GOLD, answer)
    if feedback is not None:
        taken = UserFeedback.model_validate(feedback).model_dump(exclude_none=True)
        assert taken.keys() == feedback.keys()
        assert taken
