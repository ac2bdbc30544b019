"""Checks of labelled texts: each kind of finding, with its lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.curation.alignment import TokenAligner
from karen_learner.curation.data_checks import NumberedText, are_similar, findings, leaks, numbered
from karen_learner.curation.data_reports import MAX_LISTED, data_report, read_labelled_file
from karen_learner.errors import InvalidInput
from karen_learner.records import LabelledText
from karen_learner.records.data_reports import ERRORS, DataFinding
from karen_learner.text_identity import text_key

ALIGNER = TokenAligner("en")


def labelled(text: str, **labels: Any) -> LabelledText:
    return LabelledText.model_validate({"text": text, **labels})


def texts(*rows: tuple[str, str]) -> list[NumberedText]:
    return numbered(labelled(text, intent=intent) for text, intent in rows)


def found(kind: str, *args: Any, **more: Any) -> list[DataFinding]:
    return [one for one in findings(*args, aligner=ALIGNER, **more) if one.kind == kind]


def test_contradictions_name_both_lines() -> None:
    rows = texts(("pay bill", "a"), ("other", "b"), ("Pay bill!", "c"), ("pay bill", "a"))
    (one,) = found("contradiction", rows)
    assert (one.message, one.lines) == ("intent 'c' contradicts 'a' of line 1", (1, 3))
    assert one.is_error
    assert [one.lines for one in found("duplicate", rows)] == [(1, 4)], "without the contradicting line"


def test_contradictions_of_stored_gold_are_found() -> None:
    stored = {text_key("pay bill"): [labelled("pay bill", intent="a")]}
    (one,) = found("contradiction", texts(("pay bill", "b")), stored=stored)
    assert (one.message, one.lines) == ("intent 'b' contradicts 'a' of stored gold", (1,))


def test_misaligned_spans_are_found() -> None:
    rows = [NumberedText(7, labelled("to Oslo", entities=[[3, 6, "place"]]))]
    (one,) = found("misaligned", rows)
    assert (one.message, one.lines) == ("entity 'place' at 3-6 is not aligned with the tokens", (7,))


def test_a_label_of_two_tasks_is_found() -> None:
    rows = numbered([labelled("a", intent="fine"), labelled("b", sentiment="fine")])
    (one,) = found("collision", rows)
    assert "'fine' is an intent and a sentiment" in one.message


def test_rare_labels_are_counted() -> None:
    rows = texts(*((f"text {n}", "often") for n in range(5)), ("x", "once"), ("y", "twice"), ("z", "twice"))
    assert [one.message for one in found("rare_label", rows)] == [
        "intent 'once' has 1 text",
        "intent 'twice' has 2 texts",
    ]
    assert found("rare_label", rows, rare_below=1) == []


def test_similar_labels_are_found_in_the_file_and_in_the_store() -> None:
    rows = texts(("a", "pay_bill"), ("b", "Pay Bill"), ("c", "refund"), ("d", "level 10"), ("e", "level 11"))
    known = {"intent": {"refunds": 3, "level-10": 1, "unused": 0, "Unused": 0}}
    assert [one.message for one in found("similar_labels", rows, known_labels=known)] == [
        "labels of intent look the same: 'Pay Bill' (1 text) and 'pay_bill' (1 text)",
        "labels of intent look the same: 'level 10' (1 text) and 'level-10' (stored)",
        "labels of intent look the same: 'refund' (1 text) and 'refunds' (stored)",
    ]


def test_near_duplicates_with_different_labels_are_near_contradictions() -> None:
    rows = texts(
        ("pay my bill 7", "a"), ("please pay the bill 9", "a"), ("where is it", "b"), ("it is where", "c")
    )
    assert [one.message for one in found("near_duplicate", rows)] == ["lines 1, 2 are near-duplicates"]
    (one,) = found("near_contradiction", rows)
    assert (one.message, one.lines) == (
        "lines 3, 4 are near-duplicates with different intent: 'b', 'c'",
        (3, 4),
    )


def test_leaks_are_told_by_line_and_in_a_sentence() -> None:
    train = texts(("fly me to Oslo", "travel"), ("my balance", "balance"))
    test = texts(
        ("FLY me to Oslo.", "travel"),
        ("please my the balance", "balance"),
        ("rain", "weather"),
        ("new", "travel"),
    )
    leaked = leaks(train, test)
    assert (leaked.same, leaked.near, leaked.unknown) == (((1, 1),), ((2, 2),), {"intent": {"weather": 1}})
    assert leaked.sentences() == [
        "1 of 4 test texts are also training texts (duplicates)",
        "1 of 4 test texts are near-duplicates of training texts",
        "no training text has these labels of intent in the test texts: 'weather' (1 text)",
    ]
    (one,) = found("leak", train, test=test)
    assert (one.lines, one.test_lines, one.is_error) == ((1,), (1,), True)
    assert [
        one.is_error for kind in ("near_leak", "unknown_test_label") for one in found(kind, train, test=test)
    ] == [
        False,
        False,
    ]
    assert leaks(train, texts(("new", "travel"))).sentences() == []


def distance(one: str, two: str) -> int:
    """Reference: the optimal string alignment distance, by dynamic programming."""
    table = {(i, 0): i for i in range(len(one) + 1)} | {(0, j): j for j in range(len(two) + 1)}
    for i in range(1, len(one) + 1):
        for j in range(1, len(two) + 1):
            best = min(
                table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (one[i - 1] != two[j - 1])
            )
            if i > 1 and j > 1 and one[i - 1] == two[j - 2] and one[i - 2] == two[j - 1]:
                best = min(best, table[i - 2, j - 2] + 1)
            table[i, j] = best
    return table[len(one), len(two)]


@given(st.text("abc", min_size=5, max_size=8), st.text("abc", min_size=5, max_size=8))
def test_labels_within_one_edit_are_similar(one: str, two: str) -> None:
    assert are_similar(one, two) == are_similar(two, one) == (distance(one, two) <= 1)


@pytest.mark.parametrize(
    ("one", "two", "similar"),
    [
        ("refund", "refunds", True),
        ("Card On", "card-on", True),
        ("ﬁne", "fine", True),
        ("on", "off", False),
        ("buy", "bye", False),
        ("tier_1", "tier_2", False),
        ("activate", "deactivate", False),
    ],
)
def test_similar_labels(one: str, two: str, similar: bool) -> None:
    assert are_similar(one, two) == similar


def test_a_report_counts_all_findings_and_lists_the_severe_ones_first(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "intent": "a", "source": "x"} for n in range(MAX_LISTED + 5)]
    path = tmp_path / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) * 2 + "rubbish\n")
    test = tmp_path / "test.jsonl"
    test.write_text('{"text": "text 1", "intent": "a"}\n{}\n')
    report = data_report(read_labelled_file(path), read_labelled_file(test, is_test=True), aligner=ALIGNER)
    assert report.counts == {"unusable": 2, "leak": 1, "near_duplicate": 1, "duplicate": MAX_LISTED + 5}
    assert (report.errors, report.warnings) == (3, MAX_LISTED + 6)
    assert [one.test_lines for one in report.findings[:3]] == [(), (2,), (1,)]
    assert sum(one.kind == "duplicate" for one in report.findings) == MAX_LISTED
    assert report.notes == ("gold.jsonl: ignored the keys 'source'",)
    assert {one.kind for one in report.findings if one.is_error} <= ERRORS


def test_a_file_without_a_usable_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "gold.jsonl").write_text("{}\n")
    with pytest.raises(InvalidInput, match="no usable labelled text: needs 'text'"):
        read_labelled_file(tmp_path / "gold.jsonl")
