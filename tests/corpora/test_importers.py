import contextlib
import gzip
import json
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import DocBin

from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.importers import (
    SUFFIXES,
    aiter_records,
    importers,
    iter_records,
    known_suffixes,
    register_importer,
)
from karen_learner.corpora.parsing import ImportedLine, TurnInput, imported_line
from karen_learner.corpora.text_files import MAX_LINE_CHARS
from karen_learner.errors import ImportFormatError, InvalidInput
from karen_learner.records import EntitySpan, LabelledText, UserFeedback

OURS = tuple(sorted(SUFFIXES))
GOLD = {"text": "to Boston", "intent": "travel", "sentiment": "neutral", "entities": [[3, 9, "CITY"]]}
TURN = {"user_text": "hello", "assistant_response": "hi", "user_id": "u"}


def lines_of(path) -> dict[int, ImportedLine]:
    return {line.line: line for line in iter_records(path)}


@pytest.fixture
def write(tmp_path):
    def _write(name: str, *lines: object):
        path = tmp_path / name
        encoded = [
            line
            if isinstance(line, bytes)
            else (line if isinstance(line, str) else json.dumps(line)).encode()
            for line in lines
        ]
        path.write_bytes(b"\n".join(encoded) + b"\n")
        return path

    return _write


@pytest.mark.parametrize(
    ("unit", "offsets"), [("utf-16", [6, 10]), ("bytes", [8, 12]), ("characters", [5, 9])]
)
def test_offsets_of_a_file_have_the_given_unit(write, unit, offsets):
    text = "\U0001f600 in Rome"
    feedback = {"corrected_entities": [[*offsets, "CITY"]]}
    rows = [
        {"text": text, "entities": [[*offsets, "CITY"]]},
        {**TURN, "user_text": text, "user_feedback": feedback},
    ]
    expected = (EntitySpan(start=5, end=9, label="CITY"),)
    gold, turn = iter_records(CorpusFile(write("gold.jsonl", *rows), offsets=unit))
    assert gold.value.entities == turn.value.user_feedback.corrected_entities == expected
    doccano = write("doccano.jsonl", {"id": 1, "text": text, "label": [[*offsets, "CITY"]]})
    (line,) = iter_records(CorpusFile(doccano, format="doccano", offsets=unit))
    assert line.value.entities == expected
    table = write("gold.csv", "text,entities", f'{text},"[[{offsets[0]},{offsets[1]},""CITY""]]"')
    (row,) = iter_records(CorpusFile(table, offsets=unit))
    assert row.value.entities == expected


def test_a_span_with_other_words_is_reported_with_its_unit(write):
    entity = {"start": 6, "end": 10, "label": "CITY", "text": "Rome"}
    (line,) = iter_records(write("gold.jsonl", {"text": "\U0001f600 in Rome", "entities": [entity]}))
    assert "offsets count utf-16" in line.error
    with pytest.raises(InvalidInput, match="'utf-8' of offsets is none of characters, utf-16, bytes"):
        CorpusFile(Path("x"), offsets="utf-8")


def test_gold_and_turns_in_one_file(write):
    path = write(
        "mixed.jsonl",
        {**GOLD, "id": 7, "dialogue": "d", "turn": 3},
        "",
        {
            **TURN,
            "user_feedback": {"satisfaction_score": 0.5},
            "turn_id": "x",
            "occurred_at": "2024-05-06T07:08:09Z",
        },
    )
    assert list(iter_records(path)) == [
        ImportedLine(
            1,
            LabelledText(
                text="to Boston",
                intent="travel",
                sentiment="neutral",
                entities=(EntitySpan(start=3, end=9, label="CITY"),),
            ),
        ),
        ImportedLine(
            3,
            TurnInput(
                **TURN,
                user_feedback=UserFeedback(satisfaction_score=0.5),
                turn_id="x",
                occurred_at=datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone.utc),
            ),
        ),
    ]


BAD_LINES = [
    ("{", "not JSON"),
    ("[" * 100_000, "not JSON"),
    ("3", "expected an object"),
    ("[1]", "expected an object with keys, found list"),
    (b'{"text": "\xff\xfe", "intent": "a"}', "not UTF-8"),
    ({"intent": "a"}, "has neither"),
    ({**GOLD, **TURN}, "has both"),
    ({"text": "a"}, "has no label"),
    ({"text": " ", "intent": "a"}, "the text is empty"),
    ({"text": 3, "intent": "a"}, "text: .*valid string$"),
    ({"text": "a", "intent": ""}, "intent"),
    ({"text": "a", "intnt": "b"}, "unknown key 'intnt': did you mean 'intent'"),
    ({**GOLD, "entities": [[3, 10, "CITY"]]}, "ends after the text, which has 9 characters"),
    ({**GOLD, "entities": [[3, 9, "CITY"], [3, 5, "X"]]}, "overlaps"),
    ({**GOLD, "entities": "CITY"}, "entities"),
    ({"user_text": "a", "user_id": "u"}, "assistant_response is missing"),
    ({**TURN, "user_feedback": {"satisfaction_score": 7}}, r"user_feedback\.satisfaction_score.*7"),
    ({**TURN, "user_feedback": {"rating": 7}}, r"user_feedback\.rating"),
    ({**TURN, "user_feedback": "my secret"}, "user_feedback: .* instance of UserFeedback$"),
    ({**TURN, "user_feedback": {"comment": "x" * 10_001}}, "comment: .* at most 10000 characters$"),
    ({**TURN, "use_feedback": {}}, "unknown key 'use_feedback': did you mean 'user_feedback'"),
    ('{"text": "a", "intent": "b", "text": "c"}', "the key 'text' is given twice"),
    ({**GOLD, "Text": "b"}, "'text' is given twice, the second time as 'Text'"),
    ({**TURN, "occurred_at": "soon"}, "occurred_at.*'soon'"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_LINES)
def test_a_bad_line_is_reported_with_its_number_and_the_rest_is_imported(write, bad, message):
    found = lines_of(write("some.jsonl", GOLD, bad, GOLD))
    assert sorted(found) == [1, 2, 3]
    assert found[1].value == found[3].value
    assert found[1].error is None
    assert found[2].value is None
    assert re.search(message, found[2].error), found[2].error


def test_a_line_above_the_limit_is_skipped(write):
    huge = b'{"text": "' + b"a" * (2 * MAX_LINE_CHARS) + b'"}'
    found = lines_of(write("some.jsonl", GOLD, huge, GOLD))
    assert sorted(found) == [1, 2, 3]
    assert "longer than" in found[2].error
    assert found[3].value


def test_byte_order_mark_and_line_ends_are_ignored(tmp_path):
    path = tmp_path / "some.JSONL"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOLD).encode() + b"\r\n" + json.dumps(GOLD).encode())
    assert [line.error for line in iter_records(path)] == [None, None]
    path.write_bytes(b"")
    assert list(iter_records(path)) == []


def test_control_characters_are_replaced_and_offsets_stay(write):
    line = lines_of(write("some.jsonl", '{"text": "\\u0000\\ud800 Boston", "entities": [[3, 9, "CITY"]]}'))[1]
    assert line.value.text == "\ufffd\ufffd Boston"


def test_csv(write):
    path = write(
        "gold.csv",
        b"\xef\xbb\xbftext,intent,sentiment,entities,id",
        'to Boston,travel,,"[[3, 9, ""CITY""]]",1',
        '"two\nlines, indeed",smalltalk,positive,,2',
        b"\xff\xfe,travel,,,3",
        "too,few",
        "broken,travel,,[[,4",
        "",
        "fine,travel,,[],5",
    )
    found = lines_of(path)
    assert found[2].value == LabelledText(
        text="to Boston", intent="travel", entities=(EntitySpan(start=3, end=9, label="CITY"),)
    )
    assert found[3].value == LabelledText(text="two\nlines, indeed", intent="smalltalk", sentiment="positive")
    assert found[5].error.startswith("not UTF-8: byte 0xff at character 1")
    assert found[6].error == "has 2 cells for 5 columns"
    assert "no JSON" in found[7].error
    assert found[9].value.entities == ()
    assert sorted(found) == [2, 3, 5, 6, 7, 9]


def test_the_moods_of_earlier_exports_are_ignored(write):
    table = write(
        "gold.csv", "text,sentiment,mood", 'so what,negative,"{""negative"": 0.5}"', "fine,positive,{}"
    )
    lines = write(
        "gold.jsonl",
        '{"text": "so what", "sentiment": "negative", "mood": {"negative": 0.5}}',
        '{"text": "fine", "sentiment": "positive", "mood": null}',
        '{"user_text": "well", "assistant_response": "", "user_id": "u", "mood": {}}',
    )
    gold = [
        LabelledText(text="so what", sentiment="negative"),
        LabelledText(text="fine", sentiment="positive"),
    ]
    assert [line.value for line in lines_of(table).values()] == gold
    assert [line.value for line in lines_of(lines).values()] == [
        *gold,
        TurnInput(user_text="well", assistant_response="", user_id="u"),
    ]


def test_csv_of_turns(write):
    path = write(
        "turns.csv",
        "user_text,assistant_response,user_id,user_feedback,occurred_at",
        'hello,hi,u,"{""satisfaction_score"": 0.5}",2024-05-06T07:08:09+00:00',
        "hello,hi,,,",
        "hello," + "x" * 150_000 + ",u,,",
    )
    found = lines_of(path)
    assert found[2].value.user_feedback.satisfaction_score == 0.5
    assert found[3].error == "user_id is missing"
    assert len(found[4].value.assistant_response) == 150_000


def test_an_unclosed_quote_does_not_consume_a_large_file(write):
    rows = ["x" * 1000 + ",travel"] * (2 * MAX_LINE_CHARS // 1000)
    found = lines_of(write("some.csv", "text,intent", "good,travel", '"open,travel', *rows))
    assert found[2].value
    assert "not CSV" in found[3].error
    assert sum(line.value is not None for line in found.values()) > len(rows) // 3


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("text,intnt", "unknown key 'intnt': did you mean 'intent'"),
        ("intent,sentiment", "text"),
        ("", "first row"),
    ],
)
def test_a_csv_without_usable_columns_is_an_error(write, header, message):
    with pytest.raises(ImportFormatError, match=message):
        list(iter_records(write("some.csv", header, "a,b")))


def test_docbin(tmp_path):
    nlp = spacy.blank("en")
    docs = [nlp("to Boston"), nlp("i like it"), nlp("nothing here"), nlp("confused"), nlp("bare")]
    docs[0].cats = {"travel": 1.0, "other": 0.0, "positive": 1.0, "negative": 0.0}
    docs[0].set_ents([docs[0].char_span(3, 9, label="CITY")])
    docs[1].cats = {"positive": 1.0}
    docs[2].set_ents([], default="outside")
    docs[3].cats = {"a": 1.0, "b": 1.0}
    DocBin(docs=docs, store_user_data=False).to_disk(tmp_path / "docs.spacy")
    found = lines_of(tmp_path / "docs.spacy")
    assert found[1].value == LabelledText(
        text="to Boston",
        intent="travel",
        sentiment="positive",
        entities=(EntitySpan(start=3, end=9, label="CITY"),),
    )
    assert found[2].value == LabelledText(text="i like it", sentiment="positive")
    assert found[3].value == LabelledText(text="nothing here", entities=())
    assert found[4].error == "has several categories of one task: 'a', 'b'"
    assert "no label" in found[5].error


@pytest.mark.parametrize("content", [b"", b"not a docbin", b"x\x9cgarbage" * 50])
def test_a_file_that_is_no_docbin_is_an_error(tmp_path, content):
    (tmp_path / "bad.spacy").write_bytes(content)
    with pytest.raises(ImportFormatError, match=r"bad\.spacy"):
        list(iter_records(tmp_path / "bad.spacy"))


def test_an_unknown_suffix_lists_the_known_suffixes(tmp_path):
    (tmp_path / "some.parquet").write_bytes(b"")
    with pytest.raises(ImportFormatError, match=r"\.parquet.*\.csv, .*\.jsonl, .*\.yml"):
        iter_records(tmp_path / "some.parquet")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ImportFormatError, match="there is no file"):
        iter_records(tmp_path / "nowhere.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ImportFormatError, match="there is no file"):
        iter_records(str(tmp_path / "folder.jsonl"))


async def test_reading_from_a_coroutine(write):
    path = write("many.jsonl", *([GOLD] * 1203))
    assert [line.line async for line in aiter_records(path)] == list(range(1, 1204))
    with pytest.raises(ImportFormatError):
        _ = [line async for line in aiter_records(path.with_suffix(".txt"))]


def test_a_program_can_register_an_importer(tmp_path, monkeypatch):
    monkeypatch.setattr(importers, "own", {})

    @register_importer(".txt")
    def read_plain(path):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            yield imported_line(number, {"text": line, "intent": "said"})

    (tmp_path / "some.txt").write_text("one\ntwo\n")
    assert [line.value.text for line in iter_records(tmp_path / "some.txt")] == ["one", "two"]
    assert set(known_suffixes()) == {*OURS, ".txt"}
    with pytest.raises(ValueError, match="already"):
        register_importer(".txt")(read_plain)
    with pytest.raises(ValueError, match="lower case"):
        register_importer("TXT")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with two importers, one of them broken."""
    about = tmp_path / "plain_text-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: plain-text\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[karen_learner.importers]\n"
        "txt = plain_text:read\nodd = plain_text:missing\njsonl = plain_text:read\n"
    )
    (tmp_path / "plain_text.py").write_text(
        "from karen_learner.corpora.parsing import imported_line\n"
        "def read(path):\n"
        "    for number, line in enumerate(path.read_text().splitlines(), start=1):\n"
        "        yield imported_line(number, {'text': line, 'intent': 'said'})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("package")
def test_an_installed_package_can_provide_an_importer(tmp_path):
    assert set(known_suffixes()) == {*OURS, ".odd", ".txt"}
    for name in ("some.txt", "some.odd", "some.jsonl"):
        (tmp_path / name).write_text("one\ntwo\n")
    assert [line.value.text for line in iter_records(tmp_path / "some.txt")] == ["one", "two"]
    assert [line.value for line in iter_records(tmp_path / "some.jsonl")] == [
        None,
        None,
    ]  # ours has priority
    with pytest.raises(ImportFormatError, match=r"'odd' .plain_text:missing. cannot be used"):
        iter_records(tmp_path / "some.odd")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*GOLD, *TURN, "user_feedback", "x"]), JSON) | JSON)
def test_any_json_is_a_value_or_an_error(values):
    line = imported_line(1, values)
    assert (line.value is None) != (line.error is None)


SIGNS = '-[](){}:|&*#="\n\tnlu: examples intent text data PK\x1f\x8b\ufeff'


@settings(max_examples=200)
@given(
    st.sampled_from(OURS),
    st.booleans(),
    st.binary(max_size=300) | st.text(SIGNS, max_size=60).map(str.encode),
)
def test_any_bytes_are_lines_or_no_format(tmp_path_factory, suffix, compressed, content):
    path = tmp_path_factory.mktemp("any") / f"file{suffix}"
    path.write_bytes(gzip.compress(content) if compressed else content)
    with contextlib.suppress(ImportFormatError):
        assert all((line.value is None) != (line.error is None) for line in iter_records(path))
