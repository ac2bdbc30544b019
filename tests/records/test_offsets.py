"""Offsets of entities in UTF-16 code units and bytes, and checks by their words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.records import LabelledText
from karen_learner.records.offsets import (
    OFFSET_UNITS,
    OffsetUnit,
    character_at,
    feedback_in_characters,
    in_characters,
)

TEXT = "😀 fly to Zürich"
CITY = (9, 15)
UTF_16, BYTES = (10, 16), (12, 19)
texts = st.text(st.characters(codec="utf-8"), max_size=20)


def units_of(text: str, unit: OffsetUnit) -> int:
    if unit == "characters":
        return len(text)
    return len(text.encode("utf-16-le")) // 2 if unit == "utf-16" else len(text.encode())


@given(texts, texts, st.sampled_from(OFFSET_UNITS))
def test_offsets_in_any_unit_become_characters(before: str, after: str, unit: OffsetUnit) -> None:
    assert character_at(before + after, units_of(before, unit), unit) == len(before)


@given(texts, texts, texts, st.sampled_from(OFFSET_UNITS))
def test_entities_with_their_words_are_found_again(
    before: str, words: str, after: str, unit: OffsetUnit
) -> None:
    start, end = units_of(before, unit), units_of(before + words, unit)
    given_entity = {"start": start, "end": end, "label": "X", "text": words}
    found = in_characters(before + words + after, [given_entity, [start, end, "X"]], unit)
    expected = {"start": len(before), "end": len(before + words), "label": "X"}
    assert found[0] == expected
    if unit != "characters":
        assert found[1] == [*list(expected.values())[:2], "X"]


@pytest.mark.parametrize(("unit", "offsets"), [("characters", CITY), ("utf-16", UTF_16), ("bytes", BYTES)])
def test_the_units_of_a_text(unit: OffsetUnit, offsets: tuple[int, int]) -> None:
    assert in_characters(TEXT, [[*offsets, "CITY"]], unit) == [[*CITY, "CITY"]]


def entity(offsets: tuple[int, int], **words: str) -> dict[str, Any]:
    return {"start": offsets[0], "end": offsets[1], "label": "CITY", **words}


@pytest.mark.parametrize("key", ["text", "value"])
def test_words_beside_a_span_are_a_check(key: str) -> None:
    labelled = LabelledText.model_validate({"text": TEXT, "entities": [entity(CITY, **{key: "Zürich"})]})
    assert labelled.entities is not None
    assert (labelled.entities[0].start, labelled.entities[0].end) == CITY


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (entity(UTF_16, text="Zürich"), 'offsets count utf-16: read them with offsets = "utf-16"'),
        (entity(BYTES, value="Zürich"), 'offsets count bytes: read them with offsets = "bytes"'),
        (
            entity((2, 5), text="Zürich"),
            "'CITY' at 2-5 does not have the words that it states: they are at 9-15",
        ),
        (entity(CITY, text="Zurich"), "does not have the words that it states"),
        (entity(CITY, text="Zürich", value="Rome"), "states different words"),
    ],
)
def test_other_words_are_an_error_that_names_the_unit(found: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="entity 'CITY'") as caught:
        LabelledText.model_validate({"text": TEXT, "entities": [found]})
    assert message in str(caught.value)


@pytest.mark.parametrize(("unit", "offsets"), [("utf-16", (1, 4)), ("bytes", (2, 5)), ("bytes", (0, 99))])
def test_offsets_inside_of_a_character_are_an_error(unit: OffsetUnit, offsets: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="inside of a character, or after the text"):
        in_characters(TEXT, [[*offsets, "X"]], unit)


@pytest.mark.parametrize(
    "entities", [None, "x", [3], [["a", 2, "X"]], [[3, 1, "X"]], [{"start": 1}], [[1, 2]]]
)
def test_other_forms_stay_as_they_are(entities: Any) -> None:
    assert in_characters(TEXT, entities, "utf-16") == entities


def test_feedback_names_its_unit() -> None:
    feedback = {"offsets": "utf-16", "corrected_entities": [entity(UTF_16, text="Zürich")], "consent": True}
    assert feedback_in_characters(feedback, TEXT) == {
        "corrected_entities": [entity(CITY)],
        "consent": True,
    }
    with pytest.raises(ValueError, match="'chars' is none of characters, utf-16, bytes"):
        feedback_in_characters({"offsets": "chars"}, TEXT)
