"""Examples from turns with feedback."""

from __future__ import annotations

from typing import Any

import pytest

from karen_learner.curation.examples import (
    TokenAligner,
    Unusable,
    example_from_turn,
    new_example,
)
from karen_learner.records import Example, LabelledText, Turn
from karen_learner.resolution import stratum
from tests.curation.specimens import SCHEMA, turn

ALIGNER = TokenAligner("en")


def read(source: Turn, *, schema: Any = SCHEMA, quality_threshold: float = 0.7) -> Example | Unusable:
    return example_from_turn(
        source,
        schema=schema,
        aligner=ALIGNER,
        quality_threshold=quality_threshold,
    )


def example(source: Turn, **options: Any) -> Example:
    found = read(source, **options)
    assert isinstance(found, Example)
    return found


def test_a_good_rating_confirms_the_detected_labels() -> None:
    found = example(turn(feedback={"satisfaction_score": 0.9, "response_quality": 0.8}))

    assert (found.intent, found.sentiment, found.entities) == ("billing", "neutral", None)
    assert (found.source, found.state, found.stratum) == ("rating", "pending", "billing")
    assert (found.user_id, found.turn_id, found.users) == ("ann", "t1", 1)
    assert found.quality == pytest.approx(0.78)


@pytest.mark.parametrize(
    ("feedback", "confidence", "expected"),
    [
        ({"satisfaction_score": 0.7}, 1.0, "below_quality"),
        ({"satisfaction_score": 0.8}, 0.2, "below_quality"),
        ({"satisfaction_score": 0.1}, 1.0, "below_quality"),
        ({"comment": "thanks"}, 1.0, "unlabelled"),
        ({"consent": True}, 1.0, "unlabelled"),
    ],
)
def test_other_feedback_gives_no_example(feedback: dict[str, Any], confidence: float, expected: str) -> None:
    source = turn(feedback=feedback, intent_confidence=confidence, sentiment_confidence=confidence)
    assert read(source) == expected


def test_a_bad_rating_confirms_no_label_at_any_threshold() -> None:
    source = turn(feedback={"satisfaction_score": 0.49}, intent_confidence=1.0)

    assert read(source, quality_threshold=0.01) == "below_quality"


def test_a_label_with_low_confidence_stays_unknown() -> None:
    found = example(turn(feedback={"satisfaction_score": 0.9}, sentiment_confidence=0.1))

    assert (found.intent, found.sentiment) == ("billing", None)


def test_a_rating_confirms_no_intent_of_an_out_of_scope_text() -> None:
    unscoped = turn(feedback={"satisfaction_score": 1.0}).model_copy(update={"out_of_scope": True})
    found = example(unscoped)
    assert (found.intent, found.sentiment) == (None, "neutral")


def test_a_rating_confirms_no_label_of_the_fallback() -> None:
    assert read(turn(feedback={"satisfaction_score": 1.0}, degraded=True)) == "unlabelled"


def test_a_rating_confirms_no_task_outside_the_schema() -> None:
    found = example(turn(feedback={"satisfaction_score": 1.0}), schema={"intent": ["billing"]})

    assert found.tasks == ("intent",)


@pytest.mark.parametrize(
    ("satisfaction", "confirmed"), [(0.9, True), (0.89, False)], ids=["very satisfied", "satisfied"]
)
def test_detected_entities_need_a_high_satisfaction(satisfaction: float, confirmed: bool) -> None:
    found = example(
        turn("cancel Gold now", feedback={"satisfaction_score": satisfaction}, entities=((7, 11, "PLAN"),))
    )
    assert (found.entities is not None) is confirmed


def test_detected_entities_alone_are_not_confirmed() -> None:
    source = turn(
        "cancel Gold now",
        feedback={"satisfaction_score": 1.0},
        entities=((7, 11, "PLAN"),),
        intent_confidence=0.0,
        sentiment_confidence=0.0,
    )
    assert read(source) == "below_quality"


def test_a_rating_does_not_confirm_the_absence_of_entities() -> None:
    assert example(turn(feedback={"satisfaction_score": 1.0})).entities is None


def test_a_correction_sets_the_corrected_labels_and_no_others() -> None:
    found = example(turn(feedback={"corrected_intent": "refund", "satisfaction_score": 1.0}))

    assert (found.intent, found.sentiment, found.entities) == ("refund", None, None)
    assert (found.source, found.quality) == ("correction", 0.95)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"intent_confidence": 0.97}, 0.90),
        ({"intent_confidence": 0.94}, 0.95),
        ({"intent_confidence": 0.97, "intent_detected": "refund"}, 0.95),
        ({"intent_confidence": 0.97, "degraded": True}, 0.95),
    ],
    ids=["contradicts a confident model", "an unconfident one", "confirms it", "contradicts the fallback"],
)
def test_a_correction_that_contradicts_a_confident_model_has_lower_quality(
    changes: dict[str, Any], expected: float
) -> None:
    assert example(turn(feedback={"corrected_intent": "refund"}, **changes)).quality == expected


def test_the_quality_of_an_example_is_that_of_its_weakest_label() -> None:
    source = turn(
        feedback={"corrected_intent": "refund", "corrected_sentiment": "negative"}, sentiment_confidence=0.99
    )
    assert example(source).quality == 0.90


def test_a_correction_can_set_the_absence_of_entities() -> None:
    found = example(turn(feedback={"corrected_entities": []}))

    assert (found.entities, found.stratum) == ((), "entities:none")


def test_corrected_entities_that_do_not_fit_are_unannotated() -> None:
    found = example(turn(feedback={"corrected_entities": [[0, 6, "PLAN"], [7, 8, "PLAN"]]}))
    assert isinstance(found, Example)
    assert (found.state, found.reason) == ("pending", None)
    assert [(span.start, span.end) for span in found.entities or ()] == [(0, 5)]
    assert found.unannotated == ((7, 8),)


@pytest.mark.parametrize(
    ("feedback", "reason"),
    [
        ({"corrected_intent": "weather"}, "unknown label 'weather' for intent"),
        ({"corrected_sentiment": "billing"}, "unknown label 'billing' for sentiment"),
        ({"corrected_entities": [[0, 5, "PERSON"]]}, "unknown label 'PERSON' for entities"),
        (
            {"corrected_entities": [[1, 5, "PLAN"]]},
            "entity 'PLAN' at 1-5 is not aligned with the tokens",
        ),
        (
            {"corrected_entities": [[0, 5, "PLAN"], [0, 8, "CITY"]]},
            "entity 'CITY' at 0-8 overlaps another entity",
        ),
        (
            {"corrected_entities": [[12, 30, "PLAN"]]},
            "entity 'PLAN' at 12-30 ends after the text, which has 16 characters",
        ),
    ],
)
def test_unusable_labels_quarantine_the_example(feedback: dict[str, Any], reason: str) -> None:
    found = example(turn(feedback=feedback))

    assert (found.state, found.reason) == ("quarantined", reason)


@pytest.mark.parametrize(
    ("feedback", "reason"),
    [
        ({"corrected_intent": "billing"}, "unknown label 'billing' for intent"),
        ({"corrected_entities": []}, "no gold example has entities"),
    ],
)
def test_corrections_of_a_task_without_gold_are_quarantined(feedback: dict[str, Any], reason: str) -> None:
    assert example(turn(feedback=feedback), schema={}).reason == reason


def test_a_rated_label_outside_the_schema_is_quarantined() -> None:
    found = example(turn(feedback={"satisfaction_score": 1.0}, intent_detected="weather"))

    assert (found.state, found.reason) == ("quarantined", "unknown label 'weather' for intent")


def test_a_turn_without_text_or_feedback_gives_no_example() -> None:
    assert read(turn(None, feedback={"satisfaction_score": 1.0})) == "unlabelled"
    assert read(turn(feedback=None)) == "unlabelled"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"intent": "billing", "sentiment": "neutral"}, "billing"),
        ({"sentiment": "neutral", "entities": ()}, "sentiment:neutral"),
        ({"entities": [[0, 1, "B"], [2, 3, "A"], [4, 5, "B"]]}, "entities:B"),
        ({"entities": [[0, 1, "B"], [2, 3, "A"]]}, "entities:A"),
        ({"entities": ()}, "entities:none"),
    ],
)
def test_stratum(labels: dict[str, Any], expected: str) -> None:
    assert stratum(LabelledText(text="a b c d", **labels)) == expected


def test_the_id_of_gold_depends_on_the_text() -> None:
    one, other = (
        new_example(LabelledText(text=text, intent="billing"), source="seed", quality=1.0)
        for text in ("Where is my bill?", "where is my bill")
    )
    assert (one.example_id, one.key, one.draw) == (other.example_id, other.key, other.draw)


def test_the_id_of_feedback_depends_on_its_turn_and_not_on_its_text() -> None:
    feedback = {"corrected_intent": "refund"}
    one, other = (
        example(turn("where is my bill", feedback=feedback)),
        example(turn("hello", feedback=feedback)),
    )

    assert (one.example_id, one.draw) == (other.example_id, other.draw)
    assert example(turn(feedback=feedback, turn_id="t2")).example_id != one.example_id
