"""Error analysis: the most frequent confusions."""

from __future__ import annotations

from karen_learner.records import Confusion
from karen_learner.validation import Prediction
from karen_learner.validation.scoring import analyse_errors
from tests.validation.holdouts import gold


def test_the_most_frequent_confusions_come_first_with_three_examples() -> None:
    examples = [gold(f"text {at}", intent="billing") for at in range(6)]
    predictions = [Prediction("refund")] * 5 + [Prediction("cancel")]
    ids = [example.example_id for example in examples]

    assert analyse_errors(examples, predictions) == (
        Confusion(task="intent", gold="billing", predicted="refund", count=5, example_ids=tuple(ids[:3])),
        Confusion(task="intent", gold="billing", predicted="cancel", count=1, example_ids=(ids[5],)),
    )


def test_right_predictions_and_unknown_labels_are_no_confusion() -> None:
    assert (
        analyse_errors([gold(intent="billing")], [Prediction("billing", "positive", ((0, 5, "PLAN"),))]) == ()
    )


def test_a_missing_prediction_is_shown_as_none() -> None:
    (confusion,) = analyse_errors([gold(sentiment="positive")], [Prediction()])

    assert (confusion.gold, confusion.predicted) == ("positive", "(none)")


def test_equal_texts_are_one_example() -> None:
    example = gold("hello", intent="a")
    twin = example.model_copy(update={"example_id": "another"})
    (confusion,) = analyse_errors([example, twin], [Prediction("b")] * 2)

    assert (confusion.count, confusion.example_ids) == (2, (example.example_id,))


def test_at_most_twenty_confusions() -> None:
    examples = [gold(intent=f"label {at}") for at in range(30)]

    assert len(analyse_errors(examples, [Prediction("other")] * 30)) == 20


def test_entities_are_missed_spurious_mislabelled_or_badly_bounded() -> None:
    example = gold(
        "alpha gamma delta omega",
        entities=[[0, 5, "MISSED"], [6, 11, "PLAN"], [12, 17, "DATE"]],
    )
    prediction = Prediction(entities=((6, 11, "CITY"), (12, 23, "DATE"), (18, 19, "SPURIOUS")))

    found = {(confusion.gold, confusion.predicted) for confusion in analyse_errors([example], [prediction])}
    assert found == {
        ("MISSED", "(none)"),
        ("PLAN", "CITY"),
        ("DATE", "DATE (other bounds)"),
        ("(none)", "SPURIOUS"),
    }
