from __future__ import annotations

import pytest

from karen_learner.records import Analysis, Entity, LabelledText
from karen_learner.simulation import Scores
from karen_learner.simulation.scoring import row_of, score

GOLD = [
    LabelledText(text="to Rome", intent="a", sentiment="pos", entities=((3, 7, "city"),)),
    LabelledText(text="to Oslo", intent="b", sentiment="neg"),
    LabelledText(text="hello", intent="a", entities=()),
    LabelledText(text="bye", intent="b"),
]
ROWS = [
    ("a", "pos", ((3, 7, "city"),)),
    ("a", "pos", ((3, 7, "city"),)),
    ("a", None, ((0, 5, "city"),)),
    ("b", None, None),
]


def test_scores_use_known_labels_only() -> None:
    found = score(GOLD, ROWS)
    assert found.intent == 0.75
    assert found.sentiment == 0.5
    assert found.entities == pytest.approx(2 / 3)
    assert found.accuracy == pytest.approx((4 * 0.75 + 2 * 0.5 + 2 * 2 / 3) / 8)


def test_a_task_without_labels_has_no_score() -> None:
    found = score(GOLD[3:], ROWS[3:])
    assert found == Scores(accuracy=1.0, intent=1.0)
    assert found.by_task == {"intent": 1.0}
    assert score([], []) == Scores()


def test_an_analysis_converts_to_a_prediction_row() -> None:
    analysis = Analysis(
        intent="a", intent_confidence=0.9, sentiment=None, sentiment_confidence=0.0,
        entities=(Entity(start=3, end=7, label="city", text="Rome"),),
    )  # fmt: skip
    assert row_of(analysis) == ("a", None, ((3, 7, "city"),))
