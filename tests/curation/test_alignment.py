"""Problems of entity spans: bounds, overlaps and token alignment."""

from __future__ import annotations

import pytest

from karen_learner.curation.alignment import TokenAligner
from karen_learner.records import EntitySpan
from karen_learner.records.offsets import span_problem


def spans(*triples: tuple[int, int, str]) -> list[EntitySpan]:
    return [EntitySpan(start=start, end=end, label=label) for start, end, label in triples]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((), None),
        (((0, 5, "A"), (5, 9, "B")), None),
        (((6, 9, "B"), (0, 7, "A")), "entity 'B' at 6-9 overlaps another entity"),
        (((0, 5, "A"), (0, 5, "B")), "entity 'B' at 0-5 overlaps another entity"),
        (((4, 12, "A"),), "entity 'A' at 4-12 ends after the text, which has 11 characters"),
    ],
)
def test_span_problem(found: tuple[tuple[int, int, str], ...], expected: str | None) -> None:
    assert span_problem("hello world", spans(*found)) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((), None),
        (((0, 5, "A"), (7, 12, "B")), None),
        (((1, 5, "A"),), "entity 'A' at 1-5 is not aligned with the tokens"),
        (((7, 13, "A"),), None),
        (((0, 16, "A"),), None),
        (((13, 16, "A"),), "entity 'A' at 13-16 has no words"),
        (((7, 99, "A"),), "entity 'A' at 7-99 has no words"),
    ],
)
def test_alignment_problem(found: tuple[tuple[int, int, str], ...], expected: str | None) -> None:
    assert TokenAligner("en").problem("hello, world!   ", spans(*found)) == expected


def test_strings_of_checked_texts_are_freed() -> None:
    aligner = TokenAligner("en")
    aligner.problem("hello", spans((0, 5, "A")))
    assert aligner._nlp is not None
    known = len(aligner._nlp.vocab.strings)

    for at in range(50):
        aligner.problem(f"unseen{at}", spans((0, 5, "A")))
    assert len(aligner._nlp.vocab.strings) == known
