"""Formats of other tools: in, out, in again; and records as these tools write them."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karen_learner.corpora.conversion import convert_corpus
from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.exporters import ExportFile, exporters, register_exporter, write_examples
from karen_learner.corpora.formats.json_records import RECORD_FORMATS
from karen_learner.corpora.formats.tables import as_cell, as_value
from karen_learner.corpora.importers import importers, iter_labelled, iter_records
from karen_learner.corpora.lines import Line
from karen_learner.corpora.parsing import gold_or_turn
from karen_learner.errors import ImportFormatError, InvalidInput
from karen_learner.records import EntitySpan, LabelledText

LOSSLESS = ("csv", "doccano", "jsonl", "prodigy")
"""Formats that hold every labelled text."""
LOSSY = ("conll", "dialogflow", "label-studio", "rasa", "spacy-json")
JSON_FORMATS = ("doccano", "label-studio", "prodigy", "spacy-json")
TEXT = st.characters(codec="utf-8", exclude_categories=["Cc"])
LABEL = st.sampled_from(
    [
        "travel",
        "positive",
        "neutral",
        "angry",
        "über-label",
        "a b",
        "0",
        "a:b",
        "(c)",
        "a/b",
        "..",
        "true",
        "# x",
    ]
)


def labelled(text: str, **labels: Any) -> LabelledText:
    return LabelledText.model_validate({"text": text, **labels})


@st.composite
def labelled_texts(draw: Any) -> LabelledText:
    """Any text of several words, some of which are entities."""
    words = draw(st.lists(st.text(TEXT, min_size=1, max_size=5).filter(str.strip), min_size=1, max_size=4))
    separator = draw(st.sampled_from([" ", "  ", "\n", ""]))
    spans, at = [], 0
    for word in words:
        if draw(st.booleans()):
            spans.append(EntitySpan(start=at, end=at + len(word), label=draw(LABEL)))
        at += len(word) + len(separator)
    intent = draw(st.none() | LABEL)
    sentiment = draw(st.none() | LABEL.filter(lambda label: label != intent))
    known = draw(st.booleans()) or bool(intent is None and sentiment is None)
    return labelled(
        separator.join(words), intent=intent, sentiment=sentiment, entities=tuple(spans) if known else None
    )


def unordered(examples: list[LabelledText]) -> list[str]:
    """Examples without their order: Rasa and Dialogflow group them by intent."""
    return sorted(one.model_dump_json() for one in examples)


def round_trip(
    folder: Path, name: str, examples: list[LabelledText]
) -> tuple[list[LabelledText], ExportFile]:
    target = ExportFile(folder / f"data.{name}", language="xx")
    count = write_examples(target, examples, name)
    if not count:
        return [], target
    reading = iter_labelled(CorpusFile(target.path, format=name))
    found = [line.value for line in reading if line.value is not None]
    assert count <= len(examples)
    return found, target


@settings(max_examples=60)
@given(st.lists(labelled_texts(), min_size=1, max_size=4), st.sampled_from(LOSSLESS))
def test_nothing_is_lost_in_these_formats(tmp_path_factory, examples, name):
    found, target = round_trip(tmp_path_factory.mktemp("trip"), name, examples)
    assert found == examples
    assert target.notes == ()


@settings(max_examples=100)
@given(
    st.lists(labelled_texts(), min_size=1, max_size=4),
    st.sampled_from(LOSSY),
)
def test_losses_are_noted_and_the_second_trip_loses_nothing(tmp_path_factory, examples, name):
    folder = tmp_path_factory.mktemp("trip")
    once, target = round_trip(folder, name, examples)
    assert (unordered(once) == unordered(examples)) == (target.notes == ())
    if once:
        twice, again = round_trip(folder, name, once)
        assert unordered(twice) == unordered(once)
        assert again.notes == ()


EXAMPLES = [
    labelled("fly me to Oslo 🙂 now", intent="travel", entities=[[10, 14, "place"]]),
    labelled("awful", sentiment="negative", intent="complaint"),
    labelled("nothing here", entities=[]),
]
RECORDS: dict[str, list[Any]] = {
    "prodigy": [
        {
            "text": "fly me to Oslo 🙂 now",
            "label": "travel",
            "spans": [{"start": 10, "end": 14, "label": "place", "token_start": 3, "token_end": 3}],
            "answer": "accept",
            "_input_hash": 1,
            "_task_hash": -2,
            "tokens": [],
            "meta": {"source": "chat"},
        },
        {"text": "wrong", "label": "travel", "answer": "reject"},
        {
            "text": "awful",
            "options": [{"id": "negative", "text": "bad"}],
            "accept": ["complaint", "negative"],
        },
        {"text": "nothing here", "spans": [], "answer": "accept"},
    ],
    "doccano": [
        {"id": 1, "text": "fly me to Oslo 🙂 now", "cats": ["travel"], "entities": [[10, 14, "place"]]},
        {"id": 2, "text": "awful", "label": ["complaint", "negative"], "Comments": []},
        {"id": 3, "text": "nothing here", "entities": [], "relations": []},
        {"id": 4, "text": "not yet", "label": []},
    ],
    "spacy-json": [
        ["fly me to Oslo 🙂 now", {"cats": {"travel": 1.0, "balance": 0.0}, "entities": [[10, 14, "place"]]}],
        {"text": "awful", "cats": {"complaint": 1, "negative": True, "positive": 0}},
        {"text": "nothing here", "ents": [], "tokens": [{"id": 0, "start": 0, "end": 7}]},
    ],
    "label-studio": [
        {
            "id": 7,
            "data": {"text": "fly me to Oslo 🙂 now"},
            "annotations": [
                {"was_cancelled": True, "result": []},
                {
                    "result": [
                        {
                            "id": "a",
                            "type": "labels",
                            "from_name": "label",
                            "to_name": "text",
                            "value": {"start": 10, "end": 14, "text": "Oslo", "labels": ["place"]},
                        },
                        {"type": "choices", "from_name": "topic", "value": {"choices": ["travel"]}},
                    ]
                },
            ],
            "predictions": [],
        },
        {"data": {"text": "not yet"}, "annotations": []},
        {
            "text": "awful",
            "sentiment": "negative",
            "choice": "complaint",
            "annotation_id": 3,
            "lead_time": 1.5,
        },
        {"data": {"comment": "nothing here"}, "annotations": [{"result": []}]},
    ],
}


@pytest.mark.parametrize("name", JSON_FORMATS)
@pytest.mark.parametrize("given_format", [True, False], ids=["given", "recognised"])
@pytest.mark.parametrize("array", [True, False], ids=["array", "lines"])
def test_records_of_other_tools_are_read(tmp_path: Path, name: str, given_format: bool, array: bool) -> None:
    path = tmp_path / ("data.json" if array else "data.jsonl")
    records = RECORDS[name]
    path.write_text(json.dumps(records) if array else "\n".join(map(json.dumps, records)))
    reading = iter_labelled(CorpusFile(path, format=name) if given_format else path)
    assert [line.value or line.error for line in reading] == EXAMPLES
    notes = " ".join(reading.notes)
    assert ("left out" in notes) == (name != "spacy-json")
    assert (f"--format {name}" in notes) != given_format


@pytest.mark.parametrize(
    ("name", "record", "message"),
    [
        (
            "prodigy",
            {"text": "a", "spans": [{"start": 0, "label": "x"}], "answer": "accept"},
            r"entities\.0\.end",
        ),
        ("prodigy", {"spans": [], "answer": "accept"}, "needs the key 'text'"),
        (
            "prodigy",
            {"text": "to Oslo", "spans": [{"start": 0, "end": 4, "label": "x", "text": "Oslo"}]},
            "does not have the words that it states: they are at 3-7",
        ),
        ("prodigy", {"text": "a", "accept": ["x", "y"]}, "several categories of one task: 'x', 'y'"),
        ("prodigy", {"text": "a", "spans": 3}, "spans is no list of objects"),
        ("prodigy", [], "is no annotation of Prodigy"),
        ("doccano", {"text": "a", "label": [[0, 9, "x"]]}, "ends after the text"),
        ("doccano", 3, "is no annotation of doccano"),
        ("spacy-json", ["a", {"cats": ["x"]}], "cats is no object"),
        ("spacy-json", "a", "is no pair"),
        (
            "label-studio",
            {"data": {"text": "a"}, "annotations": [{"result": [{"type": "labels"}]}]},
            "no value",
        ),
        ("label-studio", {"data": {"a": "b", "c": "d"}, "annotations": []}, "needs the key 'text'"),
        (
            "label-studio",
            {
                "data": {"text": "to Oslo"},
                "annotations": [
                    {"result": [{"type": "choices", "value": {"choices": [name]}}]} for name in ("a", "b")
                ],
            },
            "has 2 annotations, which differ",
        ),
        (
            "label-studio",
            {
                "data": {"text": "to Oslo"},
                "annotations": [
                    {
                        "result": [
                            {
                                "type": "labels",
                                "value": {"start": 0, "end": 4, "text": "Oslo", "labels": ["x"]},
                            }
                        ]
                    }
                ],
            },
            "0-4 is not in the text, or does not have the words",
        ),
    ],
)
def test_a_broken_record_is_told_and_the_rest_is_read(
    tmp_path: Path, name: str, record: Any, message: str
) -> None:
    path = tmp_path / "data.jsonl"
    rows = [RECORDS[name][0], record, RECORDS[name][0]]
    path.write_text("\n".join(map(json.dumps, rows)))
    lines = list(iter_labelled(CorpusFile(path, format=name)))
    assert [line.value for line in lines] == [EXAMPLES[0], None, EXAMPLES[0]]
    assert lines[1].line == 2
    assert re.search(message, str(lines[1].error)), lines[1].error


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "text",
    "label",
    "labels",
    "spans",
    "cats",
    "entities",
    "accept",
    "options",
    "data",
    "annotations",
    "result",
)


@settings(max_examples=300)
@given(st.sampled_from(JSON_FORMATS), st.dictionaries(st.sampled_from(KEYS), JSON) | st.lists(JSON) | JSON)
def test_any_record_is_a_value_a_note_or_an_error(name, record):
    format_ = next(one for one in RECORD_FORMATS if one.name == name)
    assert format_.recognises(record) in (True, False)
    line = Line(1, record).parsed(format_.values).parsed(gold_or_turn)
    assert sum(part is not None for part in (line.value, line.error, line.note)) == 1


def test_offsets_of_label_studio_are_those_of_a_browser(tmp_path: Path) -> None:
    text = "🙂🙂 Oslo"
    for start, words in ((5, "Oslo"), (5, None), (3, "Oslo")):
        value = {"start": start, "end": start + 4, "labels": ["place"]} | ({"text": words} if words else {})
        record = {"data": {"text": text}, "annotations": [{"result": [{"type": "labels", "value": value}]}]}
        (tmp_path / "data.json").write_text(json.dumps([record]))
        (line,) = iter_labelled(tmp_path / "data.json")
        assert line.value == labelled(text, entities=[[3, 7, "place"]])


def test_an_offset_inside_of_a_character_is_told(tmp_path: Path) -> None:
    value = {"start": 1, "end": 4, "labels": ["place"]}
    record = {"data": {"text": "🙂 Oslo"}, "annotations": [{"result": [{"type": "labels", "value": value}]}]}
    (tmp_path / "data.json").write_text(json.dumps([record]))
    (line,) = iter_labelled(tmp_path / "data.json")
    assert "1-4 is not in the text" in str(line.error)


def test_our_own_records_are_not_taken_for_those_of_another_tool(tmp_path: Path) -> None:
    row = {"text": "to Oslo", "intent": "travel", "entities": [[3, 7, "place"]], "label": "x"}
    (tmp_path / "gold.jsonl").write_text(json.dumps(row))
    reading = iter_records(tmp_path / "gold.jsonl")
    assert [line.value for line in reading] == [
        labelled("to Oslo", intent="travel", entities=[[3, 7, "place"]])
    ]
    assert reading.notes == ("ignored the keys 'label'",)


@pytest.mark.parametrize("name", sorted({*LOSSLESS, *LOSSY} - {"conll", "csv", "jsonl"}))
def test_partial_annotation_is_noted_where_it_is_lost(tmp_path: Path, name: str) -> None:
    partial = labelled("to Oslo or Rome", intent="travel", entities=[[3, 7, "place"], [11, 15, None]])
    _, target = round_trip(tmp_path, name, [partial])
    assert target.notes == ("1 texts with partially unknown entities, which are read as fully annotated",)


def test_a_record_of_another_tool_among_ours_names_the_tool(tmp_path: Path) -> None:
    ours = {"text": "to Oslo", "intent": "travel"}
    for name in JSON_FORMATS:
        foreign = RECORDS[name][1 if name == "doccano" else 0]
        (tmp_path / "gold.jsonl").write_text("\n".join(map(json.dumps, [ours, foreign, ours])))
        lines = list(iter_labelled(tmp_path / "gold.jsonl"))
        assert [line.value is None for line in lines] == [False, True, False]
        if name != "spacy-json":
            assert f"use --format {name}" in str(lines[1].error)


@given(st.text(alphabet="'=+-@\t\r\nab", max_size=6) | st.text(max_size=6))
def test_no_cell_of_a_text_is_a_formula_and_all_are_read_back(value: str) -> None:
    cell = as_cell(value)
    assert as_value(cell) == value
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_table_holds_no_formula(tmp_path: Path) -> None:
    texts = ["=1+1", "-5 please", "@home", "'=1", "it's", "+49 30 1234"]
    examples = [LabelledText(text=text, intent="=cmd()") for text in texts]
    file = tmp_path / "gold.csv"
    write_examples(ExportFile(file), examples, "csv")
    rows = file.read_text("utf-8-sig").splitlines()[1:]
    assert [row.partition(",")[0] for row in rows] == [
        "'=1+1", "'-5 please", "'@home", "''=1", "it's", "'+49 30 1234",
    ]  # fmt: skip
    assert [line.value for line in iter_labelled(file)] == examples


def test_a_failed_conversion_leaves_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "gold.jsonl", tmp_path / "old.csv"
    source.write_text('{"text": "hello", "intent": "greet"}\n')
    target.write_text("as before")

    def fill_the_disk(file: ExportFile, *_: object) -> int:
        file.path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("karen_learner.corpora.conversion.write_examples", fill_the_disk)
    with pytest.raises(InvalidInput, match=r"old\.csv cannot be written: No space left"):
        convert_corpus(source, target)
    assert target.read_text() == "as before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gold.jsonl", "old.csv"]


def test_a_link_and_a_pipe_are_written_themselves(tmp_path: Path) -> None:
    source, link, pipe = (tmp_path / name for name in ("gold.jsonl", "link.csv", "pipe.jsonl"))
    source.write_text('{"text": "hello", "intent": "greet"}\n')
    link.symlink_to(tmp_path / "real.csv")
    convert_corpus(source, link)
    assert link.is_symlink()
    assert "hello" in (tmp_path / "real.csv").read_text()
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    convert_corpus(source, pipe)
    assert b"hello" in os.read(reader, 1000)
    os.close(reader)


def test_a_file_is_converted_between_formats(tmp_path: Path) -> None:
    source = tmp_path / "data.jsonl"
    source.write_text("\n".join(map(json.dumps, [*RECORDS["doccano"], {"text": 3, "label": ["x"]}])))
    done = convert_corpus(source, tmp_path / "gold.csv")
    assert (done.documents, len(done.skipped)) == (3, 1)
    assert [line.value for line in iter_labelled(tmp_path / "gold.csv")] == EXAMPLES
    lossy = convert_corpus(source, tmp_path / "tasks.json", to="label-studio")
    assert "not exported" not in str(lossy.notes)
    with pytest.raises(InvalidInput, match=r"no exporter for 'gold\.xyz'.*--to"):
        convert_corpus(source, tmp_path / "gold.xyz")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ImportFormatError, match=r"no line of 'empty\.jsonl' is usable: it is empty"):
        convert_corpus(tmp_path / "empty.jsonl", tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


def test_a_program_can_register_an_exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporters, "own", {})

    @register_exporter("txt")
    def write_plain(path, examples):
        return path.write_text("".join(f"{one.text}\n" for one in examples)) and 3

    assert write_examples(ExportFile(tmp_path / "some.txt"), EXAMPLES, "txt") == 3
    assert (tmp_path / "some.txt").read_text().splitlines()[1:] == ["awful", "nothing here"]


def test_formats_are_written_and_read_under_the_same_names() -> None:
    assert set(exporters.names()) == set(importers.names())
