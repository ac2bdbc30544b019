"""Feedback with improbable labels, which the served model does not learn."""

from __future__ import annotations

import pytest

from karen_learner.curation.folds import JudgedTexts
from karen_learner.records import Example
from karen_learner.records.training import Predicted
from karen_learner.training.doubtful import doubtful_labels
from tests.curation.specimens import annotation, gold

Answer = tuple[Example, Predicted]


def answered(example: Example, found: str, *, right: float = 0.001, sure: float = 0.9) -> Answer:
    return example, Predicted(row=(found, None, None), right=(right, None), sure=(sure, None))


def corrected(number: int, *, found: str = "refund", **values: float) -> Answer:
    """A text with the corrected intent `billing`."""
    return answered(annotation("ann", f"text {number}"), found, **values)


KNOWN = [answered(gold(f"gold {at}", intent="billing"), "billing", right=0.9) for at in range(5)]
"""Texts whose intent the shadows recognise."""


def doubtful(*answers: Answer) -> list[str]:
    examples, predicted = zip(*answers, strict=True)
    judged = JudgedTexts(examples=examples, shadows=(0,) * len(examples), people=((),) * len(examples))
    found = {one.example_id for one in doubtful_labels(judged, predicted)}
    return [one.text for one in examples if one.example_id in found]


def test_an_improbable_label_is_doubtful() -> None:
    assert doubtful(*KNOWN, corrected(1)) == ["text 1"]
    assert doubtful(*KNOWN, corrected(1), corrected(2, found="hello")) == ["text 1", "text 2"]


def test_a_repeated_correction_is_learned() -> None:
    assert doubtful(*KNOWN, corrected(1), corrected(2, right=0.5)) == []


@pytest.mark.parametrize("values", [{"right": 0.02}, {"sure": 0.4}])
def test_a_label_is_learned_where_the_shadows_are_unsure(values: dict[str, float]) -> None:
    assert doubtful(*KNOWN, corrected(1, **values)) == []


def test_a_label_that_the_shadows_do_not_recognise_is_learned() -> None:
    assert doubtful(*KNOWN[:4], corrected(1)) == []


def test_gold_and_texts_of_several_people_are_learned() -> None:
    shared = annotation("ann", "text 1").model_copy(update={"users": 2})
    improbable = gold("text 2", intent="billing")
    assert doubtful(*KNOWN, answered(shared, "refund"), answered(improbable, "hello")) == []
