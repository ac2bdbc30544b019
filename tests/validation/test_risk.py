"""The wealth: spending, refilling, and its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.records import Example, Risk, Verdict
from karen_learner.validation.evidence import WEALTH, next_risk
from tests.validation.holdouts import gold


def judged(*seqs: int) -> list[Example]:
    return [gold(f"text {seq}", intent="billing").model_copy(update={"seq": seq}) for seq in seqs]


def test_the_first_decision_spends_a_tenth_of_the_wealth() -> None:
    risk = next_risk(None, judged(1, 2, 3), new_examples=True)

    assert risk.before == WEALTH
    assert risk.spent == pytest.approx(0.01)
    assert risk.after == pytest.approx(0.09)
    assert (risk.judged, risk.newest_seq) == (3, 3)


def test_a_decision_without_new_examples_spends_nothing() -> None:
    risk = next_risk(Risk(before=0.06, spent=0.01, after=0.05), judged(), new_examples=False)

    assert (risk.before, risk.spent, risk.after) == (0.05, 0.0, 0.05)


def test_fresh_gold_refills_the_wealth_in_proportion() -> None:
    last = Risk(before=0.03, spent=0.01, after=0.02, judged=3, newest_seq=3)

    assert next_risk(last, judged(1, 2, 3, 4), new_examples=True).before == pytest.approx(0.02 + 0.1 / 4)
    assert next_risk(last, judged(4, 5, 6), new_examples=True).before == WEALTH


def test_feedback_does_not_refill_the_wealth() -> None:
    last = Risk(before=0.03, spent=0.01, after=0.02, judged=1, newest_seq=1)
    corrections = [example.model_copy(update={"source": "correction"}) for example in judged(5, 6)]

    assert next_risk(last, [*judged(1), *corrections], new_examples=True).before == 0.02


def test_texts_that_no_longer_judge_do_not_count_as_fresh_later() -> None:
    last = next_risk(None, judged(1, 9), new_examples=True)
    between = next_risk(last, judged(1), new_examples=True)

    assert next_risk(between, judged(1, 9), new_examples=True).before == between.after


@given(st.lists(st.booleans(), max_size=300))
def test_all_decisions_on_the_same_texts_spend_at_most_the_wealth(new: list[bool]) -> None:
    risk, spent = None, 0.0
    for new_examples in new:
        risk = next_risk(risk, judged(1, 2), new_examples=new_examples)
        spent += risk.spent
    assert spent <= WEALTH


def test_a_verdict_of_an_earlier_release_is_read() -> None:
    row = {
        "accepted": False,
        "harmful": False,
        "improved": [],
        "checks": [{"name": "some_task_better", "passed": False, "detail": "no task improved"}],
    }

    verdict = Verdict.model_validate(row)
    assert (verdict.decision, verdict.risk, verdict.checks[0].interval) == (None, None, None)
