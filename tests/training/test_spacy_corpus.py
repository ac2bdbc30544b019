"""The registered reader and logger of `spacy train`."""

import io
import json
import logging
import os
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.training import Corpus
from spacy.util import registry

from karen_learner.errors import ImportFormatError
from karen_learner.training.spacy_corpus import corpus_reader
from karen_learner.training.spacy_logger import jsonl_logger

ROWS = [
    {"text": "fly to rome", "intent": "travel", "sentiment": "positive", "entities": [[7, 11, "place"]]},
    {"text": "my balance", "intent": "balance", "mood": {"negative": 1.0}},
    {"text": "awful", "sentiment": "negative"},
    {"text": "nothing here", "entities": []},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_both_are_registered_by_the_installation() -> None:
    assert registry.readers.get("karen_learner.Corpus.v1") is corpus_reader
    assert registry.loggers.get("karen_learner.JsonlLogger.v1") is jsonl_logger


def test_unknown_labels_of_lines_are_missing_in_examples(path: Path) -> None:
    reader = corpus_reader(path)
    first, second, third, last = reader(spacy.blank("en"))
    assert (first.reference.cats, first.reference.ents[0].text) == ({"travel": 1.0, "positive": 1.0}, "rome")
    assert (first.predicted.cats, first.predicted.ents) == ({}, ())
    assert second.reference.cats == {"balance": 1.0}
    assert [one.reference.has_annotation("ENT_IOB") for one in (first, second, third, last)] == [1, 0, 0, 1]
    assert len(list(reader(spacy.blank("en")))) == len(ROWS)


def test_only_labels_of_the_given_tasks_are_read(path: Path) -> None:
    nlp = spacy.blank("en")
    assert [one.reference.cats for one in corpus_reader(path, ["intent"])(nlp)] == [
        {"travel": 1},
        {"balance": 1},
    ]
    entities = list(corpus_reader(path, ["entities"])(nlp))
    assert [(one.text, one.reference.cats) for one in entities] == [("fly to rome", {}), ("nothing here", {})]


def test_unusable_lines_are_skipped_and_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write('{"text": "halfway", "intent": "travel", "entities": [[0, 4, "place"]]}\n{"intent"\n')
    nlp = spacy.blank("en")
    with caplog.at_level(logging.WARNING):
        *_, halfway = corpus_reader(path)(nlp)
    assert (halfway.reference.cats, halfway.reference.ents) == ({"travel": 1.0}, ())
    assert "line 6: not JSON" in caplog.messages[0]
    assert "1 entities do not begin and end with a token: left out" in caplog.messages[1]
    assert "halfway" not in caplog.text
    assert len(list(corpus_reader(path, ["intent"])(nlp))) == 3, "its entities are not read"


def test_a_corpus_without_labels_is_an_error(path: Path, tmp_path: Path) -> None:
    path.write_text('{"text": "a"}\n', encoding="utf-8")
    with pytest.raises(ImportFormatError, match=r"corpus\.jsonl.*intent"):
        list(corpus_reader(path, ["intent"])(spacy.blank("en")))
    with pytest.raises(ImportFormatError, match=r"no file .*absent\.jsonl"):
        list(corpus_reader(tmp_path / "absent.jsonl")(spacy.blank("en")))


def test_a_config_may_name_the_format_and_the_keys(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("q;label\nfly to rome;travel\n", encoding="utf-16")
    block = {
        "@readers": "karen_learner.Corpus.v1",
        "path": str(tmp_path / "corpus.txt"),
        "tasks": ["intent"],
        "format": "csv",
        "keys": {"q": "text", "label": "intent"},
    }
    reader = registry.resolve({"corpus": block})["corpus"]
    assert [(one.text, one.reference.cats) for one in reader(spacy.blank("en"))] == [
        ("fly to rome", {"travel": 1.0})
    ]


def test_a_docbin_is_read_as_spacy_reads_it(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    DocBin(docs=[nlp("fly to rome")]).to_disk(tmp_path / "corpus.spacy")
    reader = corpus_reader(tmp_path / "corpus.spacy")
    assert isinstance(reader, Corpus)
    assert [one.text for one in reader(nlp)] == ["fly to rome"]


def test_the_log_has_a_line_for_each_row_of_the_table(tmp_path: Path) -> None:
    nlp, out = spacy.blank("en"), io.StringIO()
    nlp.add_pipe("karen_textcat", name="intent")
    path = tmp_path / "new" / "log.jsonl"
    nlp.config["training"]["score_weights"] = {"intent_acc": 1.0}
    log_step, finish = jsonl_logger(path)(nlp, out, out)
    log_step(None)
    row = {"epoch": 1, "step": 2, "words": 30, "losses": {"intent": 0.5}, "score": 0.75}
    log_step({**row, "other_scores": {"intent_acc": 0.75}, "checkpoints": [], "seconds": 0})
    written = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    finish()
    assert "0.75" in out.getvalue()
    assert written[0].pop("seconds") >= 0
    assert written[0].pop("run").endswith(f"-{os.getpid()}")
    assert written == [{**row, "scores": {"intent_acc": 0.75}}]


def test_two_trainings_with_one_log_keep_the_lines_of_both(tmp_path: Path) -> None:
    nlp, out, path = spacy.blank("en"), io.StringIO(), tmp_path / "log.jsonl"
    row = {"epoch": 0, "words": 1, "losses": {}, "score": 0.5, "other_scores": {}, "seconds": 0}
    runs = [jsonl_logger(path)(nlp, out, out) for _ in range(2)]
    for step in range(3):
        for log_step, _ in runs:
            log_step({**row, "step": step, "checkpoints": []})
    for _, finish in runs:
        finish()
    written = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in written] == [0, 0, 1, 1, 2, 2]
    first, second = written[0]["run"], written[1]["run"]
    assert first != second
    assert [line["run"] for line in written] == [first, second] * 3
