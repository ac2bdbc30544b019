from __future__ import annotations

import json
from pathlib import Path

import pytest

from karen_learner.errors import InvalidInput
from karen_learner.simulation import read_corpus, shipped_corpus


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_a_corpus_of_two_files_ignores_other_keys(tmp_path: Path) -> None:
    train = write(tmp_path / "a.jsonl", {"text": "hi", "intent": "greet", "turn": 3}, "", {"text": "no"})
    test = write(tmp_path / "b.jsonl", {"text": "in rome", "entities": [[3, 7, "place"]], "sentiment": "ok"})
    corpus = read_corpus(train, test)
    assert [(example.text, example.intent, example.entities) for example in corpus.train] == [
        ("hi", "greet", None),
        ("no", None, None),
    ]
    assert corpus.test[0].entities[0].to_dict() == {"start": 3, "end": 7, "label": "place"}


def test_a_corpus_of_a_folder_has_train_and_test(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {"text": "hi", "intent": "greet"}, {"text": "ha", "sentiment": "good"})
    write(tmp_path / "test.jsonl", {"text": "hello", "intent": "other"})
    corpus = read_corpus(tmp_path)
    assert corpus.labels == {"intent": ("greet",), "sentiment": ("good",)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: expected an object"),
        ('{"intent": "greet"}', "line 2"),
        ('{"text": "  "}', "line 2: the text is empty"),
        ('{"text": "a", "entities": [[3, 1, "x"]]}', "line 2"),
    ],
)
def test_an_invalid_line_is_reported_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "train.jsonl", {"text": "hi"}, line)
    with pytest.raises(InvalidInput, match=message):
        read_corpus(path, path)


def test_missing_and_empty_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a folder"):
        read_corpus(tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="cannot read"):
        read_corpus(tmp_path)
    empty = write(tmp_path / "empty.jsonl", "")
    with pytest.raises(InvalidInput, match="has no texts"):
        read_corpus(empty, empty)


def test_texts_without_labels_are_errors(tmp_path: Path) -> None:
    bare = write(tmp_path / "bare.jsonl", {"text": "hi"})
    labelled = write(tmp_path / "labelled.jsonl", {"text": "hi", "intent": "greet"})
    for train, test in ((bare, labelled), (labelled, bare)):
        with pytest.raises(InvalidInput, match="have no labels"):
            read_corpus(train, test)


def test_the_shipped_corpus_is_complete() -> None:
    corpus = read_corpus(shipped_corpus())
    assert (len(corpus.train), len(corpus.test)) == (1460, 365)
    assert len(corpus.labels["intent"]) == 28
    assert len(corpus.labels["sentiment"]) == 3
    assert len(corpus.labels["entities"]) == 8
