"""A candidate that is too close to call, and probably better."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from karen_learner.records import Decision
from karen_learner.settings import Settings
from karen_learner.validation import Evidence, Prediction, judge
from tests.validation.evidences import evidence
from tests.validation.holdouts import gold, word

TEXTS = [gold(word(at), intent="billing") for at in range(300)]
CORRECTED = gold("where is the bill", intent="billing").model_copy(update={"source": "correction"})


def intents(right: int, *, shift: int = 0) -> list[Prediction]:
    """Predictions: `right` consecutive ones are correct, from position `shift`."""
    return [Prediction("billing" if (at - shift) % 300 < right else "refund") for at in range(300)]


@pytest.mark.parametrize(
    ("gain", "decision"), [(0, "too_close"), (1, "too_close"), (5, "provisional"), (20, "accepted")]
)
def test_a_likely_gain_serves_until_the_next_decision(
    settings: Settings, gain: int, decision: Decision
) -> None:
    verdict = judge(evidence(TEXTS, intents(255 + gain), intents(255)), settings)

    assert verdict.decision == decision
    assert verdict.accepted == (decision == "accepted")
    likely = [check.detail for check in verdict.checks if check.name == "likely"]
    assert bool(likely) == (decision == "provisional")


def test_a_log_likelihood_counts_unless_the_accuracy_is_lower(settings: Settings) -> None:
    before = np.full(300, 0.6)
    after = before * np.exp(0.012 + 0.1 * np.resize([1.0, -1.0], 300))

    def answers(right: int, of_gold: NDArray[np.float64]) -> list[Prediction]:
        pairs = zip(intents(right), of_gold.tolist(), strict=True)
        return [Prediction(one.intent, of_gold={"intent": value}) for one, value in pairs]

    def found(right: int) -> Evidence:
        return evidence(TEXTS, answers(right, after), answers(255, before))

    assert judge(found(255), settings).decision == "provisional"
    assert "likely" not in [check.name for check in judge(found(254), settings).checks]


@pytest.mark.parametrize(("people", "decision"), [(2, "too_close"), (3, "provisional")])
def test_feedback_of_few_people_must_show_its_gain(
    settings: Settings, people: int, decision: Decision
) -> None:
    texts = [*TEXTS, *[CORRECTED] * people]
    owners = [*[()] * 300, *((f"user {number}",) for number in range(people))]
    answers = [Prediction("refund")] * people
    candidate, champion = [*intents(260), *answers], [*intents(255), *answers]

    assert judge(evidence(texts, candidate, champion, people=owners), settings).decision == decision
