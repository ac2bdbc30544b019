"""Rasa, CoNLL and Dialogflow: files as these tools write them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.exporters import ExportFile, write_examples
from karen_learner.corpora.importers import iter_labelled
from karen_learner.errors import ImportFormatError
from karen_learner.records import LabelledText

RASA = """\
version: "3.1"

nlu:
- intent: greet
  examples: |
    - hey
    - good morning

    hello
- intent: book/flight
  examples:
    - text: |
        fly me to [Oslo](place) and [back]{"entity": "direction", "role": "to"}
      metadata:
        sentiment: positive
        source: chat
    - text: "from [NY](place:New York)"
- synonym: credit
  examples: |
    - credit card account
- regex: number
  examples: |
    - \\d+
- lookup: banks
  examples: |
    - JPMC
- intent: broken
  examples: |
    - [x]{"role": "y"}
- intent: empty
stories:
- story: one
  steps: []
"""


def labelled(text: str, **labels: Any) -> LabelledText:
    return LabelledText.model_validate({"text": text, **labels})


def found_in(path: Path, **options: Any) -> tuple[dict[int, Any], tuple[str, ...]]:
    reading = iter_labelled(CorpusFile(path, **options))
    return {line.line: line.value or line.error for line in reading}, reading.notes


def test_training_data_of_rasa(tmp_path: Path) -> None:
    (tmp_path / "nlu.yml").write_text(RASA, encoding="utf-8")
    lines, notes = found_in(tmp_path / "nlu.yml")
    flight, spans = "fly me to Oslo and back", [[10, 14, "place"], [19, 23, "direction"]]
    assert lines == {
        6: labelled("hey", intent="greet", entities=[]),
        7: labelled("good morning", intent="greet", entities=[]),
        9: "an example begins with a hyphen",
        13: labelled(flight, intent="book/flight", sentiment="positive", entities=spans),
        17: labelled("from NY", intent="book/flight", entities=[[5, 7, "place"]]),
        29: "the annotation of an entity has no 'entity'",
        30: "the intent 'empty' has no examples",
    }
    assert set(notes) == {
        "left out the section 'stories'",
        "left out sections with 'synonym'",
        "left out sections with 'regex'",
        "left out sections with 'lookup'",
        "left out 'source' of metadata",
        "left out the 'role' of entities",
        "left out the 'value' of entities",
    }


def test_entities_are_unknown_if_no_text_has_one(tmp_path: Path) -> None:
    (tmp_path / "nlu.yml").write_text("nlu:\n- intent: a\n  examples: |\n    - hey\n    - you\n")
    assert found_in(tmp_path / "nlu.yml")[0] == {
        4: labelled("hey", intent="a"),
        5: labelled("you", intent="a"),
    }


def test_a_folder_of_rasa_is_read_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "nlu").mkdir()
    (tmp_path / "nlu" / "a.yml").write_text(
        "nlu:\n- intent: a\n  examples: |\n    - to [Oslo](place)\n    no\n"
    )
    (tmp_path / "nlu" / "b.yaml").write_text("nlu:\n- intent: b\n  examples: |\n    - hey\n")
    (tmp_path / "rules.yml").write_text("rules: []\n")
    lines, _ = found_in(tmp_path)
    assert lines == {
        1: labelled("to Oslo", intent="a", entities=[[3, 7, "place"]]),
        2: "a.yml line 5: an example begins with a hyphen",
        3: labelled("hey", intent="b", entities=[]),
    }
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportFormatError, match="no YAML file below"):
        found_in(tmp_path / "empty", format="rasa")
    with pytest.raises(ImportFormatError, match="no importer for the folder 'empty'"):
        found_in(tmp_path / "empty")


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_older_json_of_rasa_is_recognised(tmp_path: Path, suffix: str) -> None:
    example = {
        "text": "to Oslo",
        "intent": "travel",
        "entities": [{"start": 3, "end": 7, "value": "oslo", "entity": "place"}],
    }
    document = {"rasa_nlu_data": {"common_examples": [example, {"text": "hey", "intent": "greet"}, 3]}}
    document["rasa_nlu_data"]["regex_features"] = [{"name": "n", "pattern": "x"}]
    path = tmp_path / f"data{suffix}"
    path.write_text(json.dumps(document, indent=2))
    for options in ({}, {"format": "rasa"}):
        lines, notes = found_in(path, **options)
        assert lines == {
            1: labelled("to Oslo", intent="travel", entities=[[3, 7, "place"]]),
            2: labelled("hey", intent="greet", entities=[]),
            3: "is no training example of Rasa",
        }
        assert "left out the section 'regex_features'" in notes


def test_older_markdown_of_rasa(tmp_path: Path) -> None:
    (tmp_path / "nlu.md").write_text("## intent:greet\n- hey\n* to [Oslo](place)\n\n## synonym:x\n- y\n")
    lines, notes = found_in(tmp_path / "nlu.md")
    assert lines == {
        2: labelled("hey", intent="greet", entities=[]),
        3: labelled("to Oslo", intent="greet", entities=[[3, 7, "place"]]),
    }
    assert notes == ("left out sections with 'synonym'",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is not YAML"),
        ("[" * 100_000, "more than 100 nested brackets"),
        ("- " * 5000, "is not YAML"),
        ("\x00", "is not YAML"),
        ("rules: []", "has no section 'nlu'"),
        ("!!python/object/apply:os.system ['false']", "has no section 'nlu'"),
        ("nlu: 3", "has no section 'nlu'"),
    ],
)
def test_yaml_of_another_kind_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "some.yml").write_text(content)
    with pytest.raises(ImportFormatError, match=message):
        found_in(tmp_path / "some.yml")


def test_aliases_of_yaml_do_not_multiply_a_file(tmp_path: Path) -> None:
    (tmp_path / "some.yml").write_text("nlu: &a\n- *a\n- intent: x\n  examples: [*a, hey]\n")
    assert labelled("hey", intent="x") in found_in(tmp_path / "some.yml")[0].values()
    items = "&i {intent: x, examples: [" + ", ".join(["&e hey", *["*e"] * 5000]) + "]}"
    (tmp_path / "some.yml").write_text(f"nlu: [{items}{', *i' * 5000}]\n")
    assert list(found_in(tmp_path / "some.yml")[0].values()) == [labelled("hey", intent="x")]


def test_rasa_is_written_as_people_write_it(tmp_path: Path) -> None:
    examples = [
        labelled("to Oslo", intent="travel", entities=[[3, 7, "place"]]),
        labelled("hey", intent="greet", entities=[]),
        labelled("two\nlines", intent="greet", sentiment="neutral", entities=[]),
    ]
    target = ExportFile(tmp_path / "nlu.yml")
    assert write_examples(target, examples, "rasa") == 3
    assert target.path.read_text() == (
        'version: "3.1"\nnlu:\n- intent: "travel"\n  examples: |\n    - to [Oslo](place)\n'
        '- intent: "greet"\n  examples:\n  - text: "hey"\n  - text: "two\\nlines"\n'
        '    metadata:\n      sentiment: "neutral"\n'
    )
    assert list(found_in(target.path)[0].values()) == examples


BIO = """\
-DOCSTART- -X- O O

fly VB O O
to TO O O
New NNP I-NP B-place
York NNP I-NP I-place

# intent = greet
# sentiment = positive
hi O
"""
BILUO = (
    "# text = U.N. in NY.\nU.N.\tU-ORG\nin\tO\nNY\tU-GPE\n.\tO\n\nx\t-\n\n"
    "New\tB-GPE\nYork\tL-GPE\nNY\tU-GPE\n"
)


def test_conll_with_bio_tags(tmp_path: Path) -> None:
    (tmp_path / "data.conll").write_text(BIO)
    assert found_in(tmp_path / "data.conll")[0] == {
        3: labelled("fly to New York", entities=[[7, 15, "place"]]),
        8: labelled("hi", intent="greet", sentiment="positive", entities=[]),
    }


def test_conll_with_unknown_tags(tmp_path: Path) -> None:
    partial = labelled("to Oslo or Rome", entities=[[3, 7, "place"], [11, 15, None]])
    target = ExportFile(tmp_path / "data.conll")
    assert write_examples(target, [partial], "conll") == 1
    assert "Oslo\tB-place\nor\tO\nRome\t-\n" in target.path.read_text()
    assert list(found_in(target.path)[0].values()) == [partial]
    assert target.notes == ()


def test_conll_with_biluo_tags(tmp_path: Path) -> None:
    (tmp_path / "data.iob").write_bytes(b"\xef\xbb\xbf" + BILUO.replace("\n", "\r\n").encode())
    assert found_in(tmp_path / "data.iob")[0] == {
        1: labelled("U.N. in NY.", entities=[[0, 4, "ORG"], [8, 10, "GPE"]]),
        7: "the text has no label: neither intent, sentiment nor entities",
        9: labelled("New York NY", entities=[[0, 8, "GPE"], [9, 11, "GPE"]]),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("word\n", "line 3 has no tag"),
        ("fly O\nword X-y\n", "line 4 has no tag"),
        ("# intent = a\n", "has no tokens"),
        ("# text = ab\nx\tO\n", "its tokens are not those of '# text'"),
        (b"\xff\tO\n", "not UTF-8 in line 3"),
    ],
)
def test_a_broken_text_of_conll_is_told_and_the_rest_is_read(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    broken = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "data.conll").write_bytes(b"fly\tO\n\n" + broken + b"\nhi\tO\n")
    lines = found_in(tmp_path / "data.conll")[0]
    assert message in lines[3]
    assert [one.text for one in lines.values() if isinstance(one, LabelledText)] == ["fly", "hi"]


@settings(max_examples=200)
@given(st.text("ab\n\t#-= OBI", max_size=40))
def test_any_text_is_read_as_conll(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "data.conll"
    path.write_text(content)
    assert all(isinstance(one, (str, LabelledText)) for one in found_in(path)[0].values())


PHRASES = [
    {
        "id": "1",
        "data": [
            {"text": "fly to ", "userDefined": False},
            {"text": "Oslo", "meta": "@sys.geo-city", "alias": "place", "userDefined": True},
            {"text": " now", "meta": "@sys.ignore", "alias": "x"},
        ],
        "isTemplate": False,
    },
    {"id": "2", "data": [{"text": "@place:place"}], "isTemplate": True},
    {"id": "3", "data": [{"text": "go"}]},
    {"id": "4"},
]
AGENT = {
    "agent.json": {},
    "intents/travel-1.json": {"name": "book a flight"},
    "intents/travel-1_usersays_en.json": PHRASES,
    "intents/hi_usersays_en.json": [{"data": [{"text": "hi"}]}],
    "entities/place_entries_en.json": [{"value": "Oslo", "synonyms": ["Oslo"]}],
}
READ = {
    1: labelled("hi", intent="hi", entities=[]),
    2: labelled("fly to Oslo now", intent="book a flight", entities=[[7, 11, "place"]]),
    4: labelled("go", intent="book a flight", entities=[]),
    5: "intents/travel-1_usersays_en.json phrase 4: is no training phrase of Dialogflow",
}


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_an_agent_of_dialogflow(tmp_path: Path, form: str) -> None:
    path = tmp_path / "agent"
    for name, document in AGENT.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(json.dumps(document))
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "agent.zip", "w") as archive:
            for name, document in AGENT.items():
                archive.writestr(name, json.dumps(document))
        path = tmp_path / "agent.zip"
    lines, notes = found_in(path)
    assert lines == READ
    assert set(notes) == {"left out templates", "left out the entries of 1 entities"}


def test_one_file_of_an_agent(tmp_path: Path) -> None:
    path = tmp_path / "hi_usersays_en.json"
    path.write_text(json.dumps(AGENT["intents/hi_usersays_en.json"]))
    assert found_in(path)[0] == {1: labelled("hi", intent="hi")}


def test_a_broken_agent_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "agent.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ImportFormatError, match=r"not JSON|cannot be unpacked"):
        found_in(tmp_path / "agent.zip")
    with zipfile.ZipFile(tmp_path / "agent.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("hi_usersays_en.json", json.dumps([{"data": [{"text": "hello " * 9}]}]))
    content = (tmp_path / "agent.zip").read_bytes()
    (tmp_path / "agent.zip").write_bytes(content[:49] + bytes([255] * 9) + content[58:])
    with pytest.raises(ImportFormatError, match="cannot be unpacked"):
        found_in(tmp_path / "agent.zip")
    with zipfile.ZipFile(tmp_path / "agent.zip", "w") as archive:
        archive.writestr("notes.json", "{}")
    with pytest.raises(ImportFormatError, match="no training phrases of Dialogflow"):
        found_in(tmp_path / "agent.zip")


def test_names_of_labels_do_not_become_paths(tmp_path: Path) -> None:
    examples = [
        labelled("to Oslo", intent=intent, entities=[[3, 7, "../place"]])
        for intent in ("../../etc/passwd", "a/b", "a_b")
    ]
    target = ExportFile(tmp_path / "agent.zip")
    assert write_examples(target, examples, "dialogflow") == 3
    with zipfile.ZipFile(target.path) as archive:
        names = archive.namelist()
    assert all(".." not in name and name.count("/") <= 1 for name in names)
    assert len(names) == len(set(names))
    assert list(found_in(target.path)[0].values()) == examples
