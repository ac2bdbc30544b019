"""One reader of JSON lines: every way to read a file agrees on its lines."""

import json
from pathlib import Path

import pytest
import spacy

from karen_learner.corpora.conversion import convert_corpus
from karen_learner.corpora.importers import iter_labelled, iter_records, required
from karen_learner.corpora.lines import Line, read_json_lines
from karen_learner.corpora.text_files import MAX_LINE_CHARS
from karen_learner.errors import ImportFormatError, InvalidInput
from karen_learner.simulation import read_corpus
from karen_learner.training.spacy_corpus import corpus_reader

GOOD = json.dumps({"text": "fly to oslo", "intent": "travel"}).encode()
USABLE = {
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "keys of other corpora": b'{"id": 1, "dialogue": 2, "turn": 3, "mood": {}, "text": "a", "intent": "b"}',
    "blank lines": b"\n  \n\t\r\n" + GOOD,
    "line ends of Windows": GOOD + b"\r",
    "a line separator within a text": '{"text": "one\u2028two\x85three", "intent": "a"}'.encode(),
    "control characters": rb'{"text": "one\u0000two\ud800", "intent": "a"}',
}  # fmt: skip
CORRUPT = {
    "no JSON": b"{",
    "no object": b"[1]",
    "a number that JSON lacks": b'{"text": "a", "entities": [[NaN, Infinity, "x"]]}',
    "an unknown key": b'{"text": "a", "intnt": "b"}',
    "another encoding": '{"text": "grüße", "intent": "a"}'.encode("latin-1"),
    "an empty text": b'{"text": " ", "intent": "a"}',
    "a carriage return alone": GOOD + b"\r" + GOOD,
    "a line that is too long": b'{"text": "' + b"a" * MAX_LINE_CHARS + b'", "intent": "a"}',
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "corpus.jsonl"


@pytest.mark.parametrize("name", USABLE)
def test_all_readers_use_the_same_lines(path: Path, name: str) -> None:
    path.write_bytes(USABLE[name] + b"\n" + GOOD + b"\n")

    (first, second) = [line.value.text for line in iter_records(path) if line.value is not None]  # type: ignore[union-attr]
    assert second == "fly to oslo"
    assert convert_corpus(path, path.with_suffix(".spacy")).documents == 2
    assert [one.text for one in corpus_reader(path)(spacy.blank("en"))] == [first, second]
    assert [one.text for one in read_corpus(path, path).train] == [first, second]


@pytest.mark.parametrize("name", CORRUPT)
def test_all_readers_refuse_the_same_lines(path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(GOOD + b"\n" + CORRUPT[name] + b"\n")

    (error,) = [line.error for line in iter_records(path) if line.value is None]
    conversion = convert_corpus(path, path.with_suffix(".spacy"))
    assert (conversion.documents, conversion.skipped) == (1, (f"corpus.jsonl line 2: {error}",))
    assert len(list(corpus_reader(path)(spacy.blank("en")))) == 1
    assert f"line 2: {error}" in caplog.text
    with pytest.raises(InvalidInput, match="line 2: "):
        read_corpus(path, path)


def test_lines_are_numbered_and_blank_lines_count(path: Path) -> None:
    path.write_bytes(b'\n{"a": 1}\n\n[]\nnull\n3')

    assert list(read_json_lines(path)) == [
        Line(2, {"a": 1}),
        Line(4, []),
        Line(5, None),
        Line(6, 3),
    ]


def test_the_strict_reader_names_the_file_and_the_line(path: Path) -> None:
    path.write_bytes(GOOD + b"\n{\n")

    with pytest.raises(ImportFormatError, match=r"corpus\.jsonl line 2: not JSON"):
        required(iter_labelled(path))
