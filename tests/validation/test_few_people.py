"""The corrections of few people: they show a gain together, and one person alone does not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.metrics import binomial_tail
from karen_learner.records import Example
from karen_learner.validation import Evidence, Prediction
from karen_learner.validation.few_people import FewPeople, compare_few_people
from tests.validation.evidences import evidence
from tests.validation.holdouts import gold, word

LEVEL = 0.0015
"""The level of feedback at a first decision with gold."""
People = list[tuple[str, ...]]


def corrections(people: People, *, users: int = 1) -> list[Example]:
    change = {"source": "correction", "users": users}
    return [gold(word(at), intent="billing").model_copy(update=change) for at in range(len(people))]


def seen(texts: list[Example], people: People, right: list[bool], **parts: int) -> Evidence:
    """A champion that is wrong on all texts, and a candidate that is right on some."""
    after = [Prediction("billing" if one else "other") for one in right]
    return evidence(texts, after, [Prediction("other")] * len(texts), people=people, **parts)


def compared(people: People, right: list[bool], *, users: int = 1, conflicts: int = 0) -> FewPeople:
    found = compare_few_people(
        seen(corrections(people, users=users), people, right, disagreements=conflicts), "intent"
    )
    assert found is not None
    return found


def test_two_people_with_the_same_corrections_show_a_gain() -> None:
    found = compared([("ann", "bob")] * 6, [True] * 5 + [False], users=2)
    assert (found.texts, found.people) == (6, 2)
    assert found.gain == pytest.approx(5 / 6)
    assert found.p_better < LEVEL


def test_people_who_often_disagree_show_no_gain() -> None:
    assert compared([("ann", "bob")] * 6, [True] * 6, users=2, conflicts=3).p_better == pytest.approx(1.0)


def test_corroborated_texts_that_stay_wrong_show_no_gain() -> None:
    assert compared([("ann", "bob")] * 6, [True] * 2 + [False] * 4, users=2).p_better > LEVEL


@pytest.mark.parametrize("right", [True, False])
def test_one_person_shows_no_gain(right: bool) -> None:
    assert compared([("liar",)] * 500, [right] * 500).p_better == pytest.approx(1.0)


def test_one_honest_person_does_not_help_a_liar() -> None:
    """No other person says the lies, so the shadow that judges them answers them wrong."""
    people = [("liar",)] * 300 + [("ann",)] * 30
    assert compared(people, [False] * 300 + [True] * 30).p_better == pytest.approx(1.0)


def test_two_people_with_texts_of_their_own_show_a_gain() -> None:
    assert compared([("ann",), ("bob",)] * 20, [True] * 36 + [False] * 4).p_better < LEVEL


def test_a_few_corroborated_texts_do_not_replace_the_others() -> None:
    people: People = [*[("ann",), ("bob",)] * 20, ("ann", "bob")]
    texts = [*corrections(people[:40]), corrections(people, users=2)[40]]
    found = compare_few_people(seen(texts, people, [True] * 41), "intent")
    assert found is not None
    assert found.texts == 41
    assert found.p_better < LEVEL


def test_random_labels_of_few_people_show_no_gain() -> None:
    """The p-value is valid if each correction becomes right with a chance of one half."""
    people: People = [(f"user {at % 4}",) for at in range(80)]
    shown = 0
    for seed in range(200):
        rng = random.Random(seed)
        shown += compared(people, [rng.random() < 0.5 for _ in people]).p_better <= 0.05
    assert shown <= 20


def test_many_people_are_compared_otherwise() -> None:
    people: People = [(f"user {at}",) for at in range(10)]
    assert compare_few_people(seen(corrections(people), people, [True] * 10), "intent") is None


@given(st.integers(0, 60), st.integers(0, 3000), st.floats(0.01, 0.99))
def test_the_tail_of_the_binomial_distribution_is_a_probability(
    successes: int, more: int, chance: float
) -> None:
    tail = binomial_tail(successes, successes + more, chance)
    assert 0.0 <= tail <= 1.0
    if successes:
        assert tail <= binomial_tail(successes - 1, successes + more, chance) + 1e-9


def test_the_tail_of_a_few_trials() -> None:
    assert binomial_tail(0, 5, 0.3) == pytest.approx(1.0)
    assert binomial_tail(2, 2, 0.3) == pytest.approx(0.09)
    assert binomial_tail(1, 2, 0.3) == pytest.approx(0.51)


@pytest.mark.parametrize(
    ("confidence", "users", "texts", "shown"),
    [(0.99, 2, 60, False), (0.6, 2, 60, True), (0.99, 3, 60, True), (0.99, 2, 30, True)],
)
def test_few_people_do_not_change_answers_of_which_the_champion_is_sure(
    confidence: float, users: int, texts: int, shown: bool
) -> None:
    people: People = [("ann", "bob", "cid")[:users]] * 8
    known = [gold(word(100 + at), intent="other") for at in range(texts)]
    before = [Prediction("other", confidence={"intent": confidence})] * 8
    after = [Prediction("billing")] * 8
    right = [Prediction("other")] * texts
    found = compare_few_people(
        evidence(
            [*corrections(people, users=users), *known],
            [*after, *right],
            [*before, *right],
            people=[*people, *[()] * texts],
        ),
        "intent",
    )
    assert found is not None
    assert (found.p_better < LEVEL) == shown
