"""Files as people have them: encodings, compression, separators, names of keys."""

import csv
import gzip
import io
import json
import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.importers import iter_labelled, iter_records
from karen_learner.corpora.parsing import TurnInput
from karen_learner.errors import ImportFormatError, InvalidInput
from karen_learner.records import EntitySpan, LabelledText, UserFeedback

GOLD = [
    {"text": "grüße aus Köln 🙂", "intent": "greet", "entities": [[10, 14, "place"]]},
    {"text": 'he said "no"; twice,\nthen left', "intent": "quote"},
]
TEXTS = [LabelledText.model_validate(row) for row in GOLD]
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le")
EXCEL = "text;intent;entities;\r\n" + "".join(
    ";".join((f'"{row["text"]}"'.replace('d "no"', 'd ""no""'), str(row["intent"]), cell, "")) + "\r\n"
    for row, cell in zip(GOLD, ('"[[10, 14, ""place""]]"', ""), strict=True)
)


@pytest.fixture
def write(tmp_path: Path):
    def _write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write


def texts_of(source: object) -> list[LabelledText]:
    lines = list(iter_labelled(source))  # type: ignore[arg-type]
    assert [line.error for line in lines if line.value is None] == []
    return [line.value for line in lines if line.value is not None]


def errors_of(source: object) -> list[tuple[int, str]]:
    return [(line.line, line.error) for line in iter_records(source) if line.error is not None]  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("form", ["lines", "array", "indented", "table"])
def test_encodings_and_compression_are_recognised(write, encoding, compressed, form):
    name, content = {
        "lines": ("gold.jsonl", "\n".join(map(json.dumps, GOLD))),
        "array": ("gold.json", json.dumps(GOLD, ensure_ascii=False)),
        "indented": ("gold.json", json.dumps(GOLD, ensure_ascii=False, indent=2)),
        "table": ("gold.csv", EXCEL),
    }[form]
    data = content.encode(encoding)
    path = write(f"{name}.gz", gzip.compress(data)) if compressed else write(name, data)
    assert texts_of(path) == TEXTS


def test_the_encoding_of_a_file_can_be_given(write):
    path = write("gold.csv", "text;intent\nschöne grüße;greet\nhallo;greet\n".encode("cp1252"))
    assert [number for number, _ in errors_of(path)] == [2]
    assert "byte 0xf6" in errors_of(path)[0][1]
    assert [one.text for one in texts_of(CorpusFile(path, encoding="cp1252"))] == ["schöne grüße", "hallo"]
    with pytest.raises(ImportFormatError, match="no text encoding 'klingon'"):
        CorpusFile(path, encoding="klingon")


def test_a_given_encoding_yields_to_a_byte_order_mark(write):
    path = write("gold.jsonl", json.dumps(GOLD[0]).encode("utf-16"))
    assert texts_of(CorpusFile(path, encoding="utf-8")) == TEXTS[:1]


def test_damaged_gzip_data_are_an_error(write):
    path = write("gold.jsonl.gz", gzip.compress(b"\n".join([json.dumps(GOLD[0]).encode()] * 5000))[:-30])
    with pytest.raises(ImportFormatError, match=r"gzip data of 'gold\.jsonl\.gz' are damaged"):
        list(iter_records(path))


@given(
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1), max_size=5),
)
def test_any_table_of_a_spreadsheet_is_read(tmp_path_factory, separator, encoding, end, quoted, texts):
    rows = [(text, "greet") for text in texts if text.strip()]
    out = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting).writerows(
        [("text", "intent"), *rows]
    )
    path = tmp_path_factory.mktemp("table") / "gold.csv"
    path.write_bytes(out.getvalue().encode(encoding))
    assert [(one.text, one.intent) for one in texts_of(path)] == rows


def test_a_stated_separator_and_empty_rows_and_columns(write):
    path = write("gold.csv", "sep=;\r\nText; Intent ;;\r\n;;;\r\nhello, you;greet;;\r\nbye;;;x\r\n")
    assert [(line.line, line.value or line.error) for line in iter_records(path)] == [
        (4, LabelledText(text="hello, you", intent="greet")),
        (5, "has a value in a column without a name"),
    ]


def test_columns_that_are_there_twice_are_an_error(write):
    with pytest.raises(ImportFormatError, match=r"the columns of 'gold\.csv': 'text' is there twice"):
        texts_of(write("gold.csv", "text,intent,Text\na,b,c\n"))


def test_other_columns_and_keys_are_ignored_with_a_note(write):
    table = iter_records(write("gold.csv", "text,intent,split,annotator\na,b,train,ann\n"))
    assert [line.value for line in table] == [LabelledText(text="a", intent="b")]
    assert table.notes == ("ignored the columns 'split', 'annotator'",)
    row = {"text": "a", "intent": "b", "meta": {"source": "chat"}, "id": 7}
    records = iter_records(write("gold.jsonl", json.dumps(row)))
    assert [line.value for line in records] == [LabelledText(text="a", intent="b")]
    assert records.notes == ("ignored the keys 'meta'",)


def test_keys_can_be_renamed(write):
    path = write("gold.csv", "utterance\tlabel\nfly home\ttravel\n")
    file = CorpusFile(path, keys={"utterance": "text", "label": "intent"})
    assert texts_of(file) == [LabelledText(text="fly home", intent="travel")]
    with pytest.raises(ImportFormatError, match=r"first row.*'utterance', 'label'.*--map COLUMN=text"):
        texts_of(path)
    with pytest.raises(InvalidInput, match="'label' cannot be read as 'intnt': did you mean 'intent'"):
        CorpusFile(path, keys={"label": "intnt"})
    with pytest.raises(InvalidInput, match="known keys are"):
        CorpusFile(path, keys={"label": "zzz"})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a", "label": "b"}, "the text has no label.*'label'.*--map label=intent"),
        ({"utterance": "a", "label": "b"}, "neither, but 'utterance', 'label'.*--map utterance=text"),
        ({"text": "a", "sentimnt": "b", "intent": "c"}, "unknown key 'sentimnt': did you mean 'sentiment'"),
        ({"text": "a", "meta": {}, "answer": "perhaps"}, "no label.*'meta', 'answer'.*--map answer=intent"),
        ({"intents": [{"tag": "greet"}]}, "neither, but 'intents': name the key of the text$"),
        (
            {"user_text": "a", "assistant_response": "b", "user": "c"},
            "user_id is missing.*--map user=user_id",
        ),
    ],
)
def test_an_unknown_key_is_told_without_a_far_fetched_hint(write, row, message):
    ((_, error),) = errors_of(write("gold.jsonl", json.dumps(row)))
    assert re.search(message, error)
    assert ("did you mean" in error) == ("sentimnt" in error)


def test_records_over_several_lines_are_read(write):
    path = write("gold.jsonl", "\n".join(json.dumps(row, indent=1) for row in GOLD))
    assert texts_of(path) == TEXTS
    (line,) = iter_records(write("one.json", json.dumps(GOLD[0], indent=4)))
    assert line.value == TEXTS[0]


def test_a_broken_array_is_an_error_with_its_place(write):
    with pytest.raises(ImportFormatError, match=r"'gold\.json' is not JSON: .*line 3 column"):
        texts_of(write("gold.json", '[\n{"text": "a", "intent": "b"},\n{"text" "c"}\n]'))


def test_lines_after_a_broken_first_line_are_read(write):
    path = write("gold.jsonl", '{"text": "a", "intent":\n' + json.dumps(GOLD[0]) + "\n")
    assert [(line.line, line.value) for line in iter_records(path)] == [(1, None), (2, TEXTS[0])]


def test_lists_are_no_records(write):
    path = write("gold.jsonl", '["a", "b"]\n["c", "d"]\n')
    assert [error for _, error in errors_of(path)] == ["expected an object with keys, found list"] * 2


def test_an_unknown_format_lists_those_that_are_known(write):
    path = write("gold.docx", "x")
    with pytest.raises(ImportFormatError, match=r"'\.docx'.*\.csv.*--format"):
        iter_records(path)
    with pytest.raises(
        ImportFormatError, match="unknown importer for the format 'jsnl': did you mean 'jsonl'"
    ):
        iter_records(CorpusFile(path, format="jsnl"))
    renamed = write("gold.txt", "text\tintent\nfly home\ttravel\n")
    assert texts_of(CorpusFile(renamed, format="csv")) == [LabelledText(text="fly home", intent="travel")]


def test_feedback_may_stand_beside_the_other_keys_of_a_turn(write):
    header = "user_text,assistant_response,user_id,rating,corrected_intent,corrected_entities,consent"
    path = write(
        "turns.csv", f'{header}\nto Oslo,,ann,0.5,travel,"[[3, 7, ""place""]]",true\nhi,hello,bob,,,,\n'
    )
    first, second = (
        line.value for line in iter_records(CorpusFile(path, keys={"rating": "satisfaction_score"}))
    )
    assert first == TurnInput(
        user_text="to Oslo",
        assistant_response="",
        user_id="ann",
        user_feedback=UserFeedback(
            satisfaction_score=0.5,
            corrected_intent="travel",
            corrected_entities=(EntitySpan(start=3, end=7, label="place"),),
            consent=True,
        ),
    )
    assert second == TurnInput(user_text="hi", assistant_response="hello", user_id="bob")
    both = {"user_text": "a", "assistant_response": "", "user_id": "u", "consent": True, "user_feedback": {}}
    ((_, error),) = errors_of(write("turns.jsonl", json.dumps(both)))
    assert error == "has 'user_feedback', and 'consent' beside it"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_pipe_is_read_once(tmp_path, compressed):
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    content = "\n".join(map(json.dumps, GOLD)).encode()
    data = gzip.compress(content) if compressed else content
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    assert texts_of(path) == TEXTS
    writer.join()
