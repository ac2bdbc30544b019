"""The comparison on feedback: weights of people, selection by errors, and hostile users."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.records import Example, Verdict
from karen_learner.settings import Settings
from karen_learner.validation import Prediction, judge
from karen_learner.validation.comparison import PERSON_SHARE, capped_weights, compare_feedback
from tests.validation.evidences import evidence
from tests.validation.holdouts import gold, word

LABELS = ("billing", "cancel", "delivery", "refund")
INTENT = frozenset({"intent"})
SEED = [gold(f"seed {word(at)}", intent=LABELS[at % 2]) for at in range(42)]
RIGHT_ON_SEED = [Prediction(example.intent) for example in SEED]


def feedback(at: int, label: str, source: str = "correction") -> Example:
    return gold(word(at), intent=label).model_copy(update={"source": source})


def verdict(
    settings: Settings,
    texts: list[Example],
    candidate: list[Prediction],
    champion: list[Prediction],
    people: list[tuple[str, ...]],
    on_seed: list[Prediction] = RIGHT_ON_SEED,
) -> Verdict:
    """The verdict with 42 gold texts, all right in the champion, beside the feedback."""
    found = evidence(
        [*SEED, *texts],
        [*on_seed, *candidate],
        [*RIGHT_ON_SEED, *champion],
        people=[*[()] * 42, *people],
        taught=INTENT,
        trained=INTENT,
        taught_labels=frozenset(("intent", label) for label in LABELS),
    )
    return judge(found, settings)


@pytest.mark.parametrize(("users", "said"), [(1, "of one person"), (3, "of 3 people"), (10, None)])
def test_feedback_of_a_few_people_needs_that_of_others(
    settings: Settings, users: int, said: str | None
) -> None:
    texts = [feedback(at, "billing") for at in range(30)]
    people = [(f"user {at % users}",) for at in range(30)]

    missing = verdict(settings, texts, [Prediction("x")] * 30, [Prediction("x")] * 30, people).missing
    assert missing is not None
    assert (f"its feedback is {said}, and each text is judged without" in missing) == (said is not None)


def test_correct_corrections_of_many_people_are_learned(settings: Settings) -> None:
    labels = [LABELS[at % 2] for at in range(126)]
    texts = [feedback(at, label) for at, label in enumerate(labels)]
    people = [(f"user {at % 30}",) for at in range(126)]

    found = verdict(settings, texts, [Prediction(label) for label in labels], [Prediction("x")] * 126, people)
    assert found.accepted
    assert found.checks[0].detail.startswith("better: intent +1.000 on 126 feedback texts of 30 people")


def test_consistent_lies_of_one_user_are_not_learned(settings: Settings) -> None:
    texts = [feedback(at, "refund") for at in range(500)]

    found = verdict(settings, texts, [Prediction("refund")] * 500, [Prediction("x")] * 500, [("liar",)] * 500)
    assert (found.accepted, found.decision) == (False, "too_close")


def test_a_user_with_many_lies_does_not_outweigh_others(settings: Settings) -> None:
    texts = [feedback(at, "refund") for at in range(600)]
    people = [("liar",)] * 500 + [(f"user {at % 25}",) for at in range(100)]
    candidate = [Prediction("refund")] * 500 + [Prediction("y" if at % 3 else "refund") for at in range(100)]

    assert not verdict(settings, texts, candidate, [Prediction("x")] * 600, people).accepted


@pytest.mark.parametrize("seed", range(5))
def test_random_labels_of_twenty_users_are_not_learned(settings: Settings, seed: int) -> None:
    """The candidate changes half of its answers at random."""
    rng = np.random.default_rng(seed)
    champion = rng.choice(LABELS, size=300)
    labels = [str(rng.choice([label for label in LABELS if label != before])) for before in champion]
    candidate = [str(rng.choice(LABELS)) if rng.random() < 0.5 else str(before) for before in champion]
    texts = [feedback(at, label) for at, label in enumerate(labels)]
    people = [(f"user {at % 20}",) for at in range(300)]
    sides = [[Prediction(str(label)) for label in side] for side in (candidate, champion)]

    assert not verdict(settings, texts, *sides, people).accepted


def test_texts_of_one_wording_show_no_gain(settings: Settings) -> None:
    texts = [feedback(7, "refund").model_copy(update={"example_id": f"ex {at}"}) for at in range(60)]
    people = [(f"user {at}",) for at in range(60)]

    assert not verdict(settings, texts, [Prediction("refund")] * 60, [Prediction("x")] * 60, people).accepted


def test_feedback_does_not_count_if_gold_is_lower(settings: Settings) -> None:
    texts = [feedback(at, "refund") for at in range(120)]
    people = [(f"user {at % 40}",) for at in range(120)]
    sides = [Prediction("refund")] * 120, [Prediction("x")] * 120
    lower = [Prediction("x")] * 3 + RIGHT_ON_SEED[3:]

    assert verdict(settings, texts, *sides, people).accepted
    found = verdict(settings, texts, *sides, people, on_seed=lower)
    assert (found.accepted, found.harmful) == (False, False)


def test_corrections_of_other_labels_do_not_count_without_confirmations(settings: Settings) -> None:
    texts = [feedback(at, "other") for at in range(120)]
    people = [(f"user {at % 40}",) for at in range(120)]

    assert not verdict(settings, texts, [Prediction("other")] * 120, [Prediction("x")] * 120, people).accepted


def test_corrected_and_confirmed_texts_are_weighted_to_the_accuracy() -> None:
    """Half of the corrected texts gained, a tenth of the confirmed texts lost, at an accuracy of 0.8."""
    texts = [feedback(at, "refund", "correction" if at < 40 else "rating") for at in range(140)]
    champion = [Prediction("x")] * 40 + [Prediction("refund")] * 100
    candidate = [Prediction("refund" if at % 2 else "x") for at in range(40)]
    candidate += [Prediction("x" if at % 10 == 0 else "refund") for at in range(100)]
    found = evidence(texts, candidate, champion, people=[(f"user {at % 70}",) for at in range(140)])

    compared = compare_feedback(found, "intent", accuracy=0.8, gold=100)
    assert compared is not None
    assert compared.gain == pytest.approx(0.2 * 0.5 - 0.8 * 0.1)
    assert (compared.texts, compared.people, compared.allowance) == (140, 70, 0.0)


def test_another_wrong_answer_is_a_loss() -> None:
    texts = [feedback(at, "refund") for at in range(40)]
    candidate = [Prediction("refund")] * 20 + [Prediction("y")] * 20
    found = evidence(
        texts,
        candidate,
        [Prediction("x")] * 40,
        people=[(f"user {at}",) for at in range(40)],
        taught_labels=frozenset({("intent", "refund")}),
    )

    compared = compare_feedback(found, "intent", accuracy=0.8, gold=100)
    assert compared is not None
    assert compared.gain == pytest.approx(0.0)
    assert compared.allowance == 0.05


def test_without_feedback_there_is_no_comparison() -> None:
    found = evidence(SEED, RIGHT_ON_SEED, RIGHT_ON_SEED)

    assert compare_feedback(found, "intent", accuracy=1.0, gold=42) is None


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_no_person_has_more_than_the_share(counts: list[int]) -> None:
    people = [(f"user {person}",) for person, count in enumerate(counts) for _ in range(count)]
    weights = capped_weights(people)
    shares: Counter[str] = Counter()
    for (person,), weight in zip(people, weights, strict=True):
        shares[person] += weight

    assert sum(shares.values()) == pytest.approx(1.0)
    assert max(shares.values()) <= max(PERSON_SHARE, 1.0 / len(counts)) + 1e-9


def test_people_below_the_share_weigh_by_their_texts() -> None:
    people = [(f"user {person}",) for person in range(40) for _ in range(1 + person % 2)]

    assert capped_weights(people) == pytest.approx(np.full(60, 1 / 60))
