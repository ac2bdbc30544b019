"""`evaluate` and `compare`."""

import json
import re
import sqlite3

import pytest

from karen_learner.errors import ExitCode
from karen_learner.models.files import HomeLayout
from karen_learner.records.training import Predicted
from karen_learner.settings import load_settings
from karen_learner.training.shadows import JudgedText, write_judged
from tests.cli.conftest import BILLS, HELLOS, LINES, write_lines

TENANT = "telecom"


@pytest.fixture
def labelled_file(tmp_path):
    """Texts of all three intents, and a turn."""
    bills = [{"text": f"{words} that invoice bill", "intent": "billing"} for words in BILLS]
    lines = [{"text": f"{words} this wifi router", "intent": "outage"} for words in LINES]
    hellos = [{"text": f"{words} dear old friend", "intent": "greeting"} for words in HELLOS]
    turn = {"user_text": "hi", "assistant_response": "hello", "user_id": "u"}
    return write_lines(tmp_path / "test.jsonl", [*bills, *lines, *hellos, turn])


def versions(cli):
    return [version["version"] for version in cli.json("versions", TENANT)]


def test_evaluate_scores_the_live_version(cli, labelled_file, files_of):
    before = files_of(cli.home)
    document = cli.json("evaluate", TENANT, labelled_file)
    newest, _ = versions(cli)
    assert (document["version"], document["texts"], document["skipped_count"]) == (newest, 36, 1)
    assert document["scores"]["intent_accuracy"] >= 0.9
    assert set(document["scores"]["per_label"]["intent"]) == {"billing", "outage", "greeting"}
    assert document["reliability"]["intent"]["texts"] == 36
    assert document["unknown_labels"] == {}
    assert files_of(cli.home) == before
    result = cli("evaluate", TENANT, labelled_file)
    assert result.exit_code == ExitCode.OK
    for expected in (newest, "on 36 texts", "95 % interval", "calibration error", "greeting", "F1"):
        assert expected in result.stdout
    assert "line 37: a turn" in result.stderr


def test_labels_that_a_version_lacks_count_as_wrong(cli, labelled_file):
    _, oldest = versions(cli)
    document = cli.json("evaluate", TENANT, labelled_file, "--version", oldest)
    assert document["unknown_labels"] == {"intent": {"greeting": 12}}
    assert document["scores"]["per_label"]["intent"]["greeting"]["recall"] == 0.0
    worst = document["scores"]["errors"][0]
    assert worst["gold"] == "greeting"
    assert document["example_texts"][worst["example_ids"][0]].endswith("dear old friend")
    result = cli("evaluate", TENANT, labelled_file, "--version", oldest)
    assert "does not know these labels of intent" in result.stderr
    assert "'greeting' (12)" in result.stderr
    assert "Most frequent confusions" in result.stdout


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"text": "hello", "intent": "billin"}], "knows no label of .* 'billin': did you mean 'billing'"),
        ([{"text": "hello", "sentiment": "angry"}], "it has no model of sentiment"),
        ([{"text": "hello", "intent": "zzz"}], "its labels of intent are 'billing'"),
        ([{"text": "hello"}], "no line of .* can be evaluated: line 1: .*no label"),
        ([], "the file is empty"),
    ],
)
def labelled_files_without_known_labels_are_errors(cli, tmp_path, lines, message):
    file = write_lines(tmp_path / "bad.jsonl", lines)
    document = cli.json("evaluate", TENANT, file, code=ExitCode.ERROR)
    assert document["type"] == "InvalidInput"
    assert re.search(message, document["error"])


def test_unknown_versions_formats_and_untrained_tenants_are_errors(cli, empty, labelled_file, tmp_path):
    assert cli.json("evaluate", TENANT, labelled_file, "--version", "v9", code=ExitCode.ERROR)["type"] == (
        "UnknownVersion"
    )
    other = tmp_path / "test.xml"
    other.write_text("<x/>")
    assert cli.json("evaluate", TENANT, other, code=ExitCode.ERROR)["type"] == "ImportFormatError"
    turns = write_lines(
        tmp_path / "turns.jsonl", [{"user_text": "hi", "assistant_response": "hello", "user_id": "u"}]
    )
    assert empty("ingest", "new", turns).exit_code == ExitCode.OK
    assert "bootstrap it" in empty.json("evaluate", "new", labelled_file, code=ExitCode.ERROR)["error"]


def test_compare_shows_differences_and_flips(cli, labelled_file):
    newest, oldest = versions(cli)
    document = cli.json("compare", TENANT, oldest, newest, labelled_file)
    assert (document["before"], document["after"], document["source"]) == (oldest, newest, "labelled")
    [task] = document["tasks"]
    assert task["difference"] == pytest.approx(task["after"] - task["before"])
    assert task["difference"] > 0.2
    assert task["interval"][0] > 0.0
    assert task["fixed"] - task["broken"] == round(task["difference"] * 36)
    assert {flip["gold"] for flip in document["flips"] if flip["kind"] == "fixed"} >= {"greeting"}
    assert document["unknown_labels"] == {oldest: {"intent": {"greeting": 12}}, newest: {}}
    result = cli("compare", TENANT, oldest, newest, labelled_file)
    assert result.exit_code == ExitCode.OK
    for expected in ("fixed", "dear old friend", "difference"):
        assert expected in result.stdout


def test_compare_of_a_version_with_itself_finds_nothing(cli, labelled_file):
    newest, _ = versions(cli)
    assert cli.json("compare", TENANT, newest, newest, labelled_file)["flips"] == []
    assert (
        "both versions give the same answers" in cli("compare", TENANT, newest, newest, labelled_file).stdout
    )


def test_hostile_texts_are_escaped(cli, tmp_path):
    newest, oldest = versions(cli)
    text = "[red]dear[/red] friend \x1b[31m hello"
    file = write_lines(tmp_path / "hostile.jsonl", [{"text": text, "intent": "outage"}])
    shown = cli("evaluate", TENANT, file).stdout + cli("compare", TENANT, oldest, newest, file).stdout
    assert "\x1b" not in shown
    assert json.loads(cli("evaluate", TENANT, file, "--json").stdout)["texts"] == 1


def record(cli, version, intents):
    """Record out-of-fold predictions of a version: intents by example id."""
    folder = HomeLayout(cli.home, load_settings(environment={}).paths).shadows(TENANT, version)
    judged = [
        JudgedText(example_id=name, predicted=Predicted(row=(intent, None, None)))
        for name, intent in intents.items()
    ]
    write_judged(folder, judged)


@pytest.fixture
def examples(cli):
    """Intents of the gold of the home, by example id."""
    with sqlite3.connect(cli.home / "karen.db") as database:
        return dict(database.execute("SELECT example_id, intent FROM examples ORDER BY example_id"))


def test_compare_without_a_file_uses_the_judged_gold_of_both_versions(cli, examples):
    newest, oldest = versions(cli)
    wrong, gone = list(examples)[:5], list(examples)[5:8]
    record(cli, oldest, examples | dict.fromkeys(wrong, "nonsense"))
    record(cli, newest, {name: intent for name, intent in examples.items() if name not in gone})
    document = cli.json("compare", TENANT, oldest, newest)
    assert (document["source"], document["texts"]) == ("judged", len(examples) - 3)
    [task] = document["tasks"]
    assert (task["fixed"], task["broken"], task["changed"]) == (5, 0, 0)
    assert task["difference"] == pytest.approx(5 / (len(examples) - 3))
    assert {flip["example_id"] for flip in document["flips"]} == set(wrong)
    assert set(document["example_texts"]) == set(wrong)
    shown = cli("compare", TENANT, oldest, newest).stdout
    assert f"{len(examples) - 3} judged gold texts" in shown


def test_a_rollback_shows_both_versions_on_the_same_texts(cli, examples):
    newest, oldest = versions(cli)
    record(cli, oldest, examples | dict.fromkeys(list(examples)[:9], "nonsense"))
    record(cli, newest, examples)
    document = cli.json("rollback", TENANT, "--dry-run")
    assert (document["comparison"]["before"], document["comparison"]["after"]) == (newest, oldest)
    [task] = document["comparison"]["tasks"]
    assert (task["before"], task["broken"]) == (1.0, 9)
    assert "flips" not in document["comparison"]
    assert "target" in cli("rollback", TENANT, "--dry-run").stdout


def test_versions_without_common_judged_texts_say_that_they_cannot_be_compared(cli, examples):
    newest, oldest = versions(cli)
    first, second = list(examples.items())[:5], list(examples.items())[5:]
    record(cli, oldest, dict(first))
    record(cli, newest, dict(second))
    document = cli.json("compare", TENANT, oldest, newest, code=ExitCode.ERROR)
    assert "no judged gold in common" in document["error"]
    shown = " ".join(cli("rollback", TENANT, "--dry-run").stdout.split())
    assert "cannot be compared" in shown
    assert cli.json("rollback", TENANT, "--dry-run")["comparison"] is None
    record(cli, oldest, {})
    document = cli.json("compare", TENANT, oldest, newest, code=ExitCode.ERROR)
    assert f"{oldest} has no recorded judged texts" in document["error"]


def test_an_evaluation_tells_the_columns_that_it_ignores(cli, tmp_path):
    table = tmp_path / "test.csv"
    table.write_text("question;topic;split\n" + "".join(f"{words} my bill;billing;test\n" for words in BILLS))
    named = ("--map", "question=text", "--map", "topic=intent")
    assert cli.json("evaluate", TENANT, table, *named)["notes"] == ["ignored the columns 'split'"]
    first, second = versions(cli)
    result = cli("compare", TENANT, first, second, table, *named)
    assert result.exit_code == ExitCode.OK
    assert "ignored the columns 'split'" in result.stderr
