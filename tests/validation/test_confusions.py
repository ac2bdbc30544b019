"""The analysis of errors."""

from __future__ import annotations

from karen_learner.records import Confusion
from karen_learner.validation import Prediction
from karen_learner.validation.confusions import confusions
from tests.validation.holdouts import gold


def test_the_most_frequent_come_first_with_a_few_texts() -> None:
    examples = [gold(f"text {at}", intent="billing") for at in range(6)]
    says = [Prediction("refund")] * 5 + [Prediction("cancel")]

    assert confusions(examples, says) == (
        Confusion(
            task="intent", gold="billing", predicted="refund", count=5, texts=("text 0", "text 1", "text 2")
        ),
        Confusion(task="intent", gold="billing", predicted="cancel", count=1, texts=("text 5",)),
    )


def test_what_is_right_or_unknown_is_no_confusion() -> None:
    assert confusions([gold(intent="billing")], [Prediction("billing", "positive", ((0, 5, "PLAN"),))]) == ()


def test_nothing_predicted_is_told_as_such() -> None:
    (confusion,) = confusions([gold(sentiment="positive")], [Prediction()])

    assert (confusion.gold, confusion.predicted) == ("positive", "(none)")


def test_long_texts_are_cut_and_equal_ones_told_once() -> None:
    (confusion,) = confusions([gold("x" * 300, intent="a")] * 2, [Prediction("b")] * 2)

    assert confusion.count == 2
    assert [len(text) for text in confusion.texts] == [200]


def test_at_most_twenty_rows() -> None:
    examples = [gold(intent=f"label {at}") for at in range(30)]

    assert len(confusions(examples, [Prediction("other")] * 30)) == 20


def test_tasks_left_out_are_not_analysed() -> None:
    assert confusions([gold(intent="a", sentiment="b")], [Prediction()], tasks=["entities"]) == ()


def test_entities_are_missed_spurious_mislabelled_or_badly_bounded() -> None:
    example = gold(
        "alpha gamma delta omega",
        entities=[[0, 5, "MISSED"], [6, 11, "PLAN"], [12, 17, "DATE"]],
    )
    said = Prediction(entities=((6, 11, "CITY"), (12, 23, "DATE"), (18, 19, "SPURIOUS")))

    found = {(confusion.gold, confusion.predicted) for confusion in confusions([example], [said])}
    assert found == {
        ("MISSED", "(none)"),
        ("PLAN", "CITY"),
        ("DATE", "DATE (other bounds)"),
        ("(none)", "SPURIOUS"),
    }
