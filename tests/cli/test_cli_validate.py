"""`validate`: the findings in a file, with and without a tenant."""

import json
from pathlib import Path

from karen_learner.errors import ExitCode

TENANT = "telecom"
CLEAN = [{"text": f"{word} {intent}", "intent": intent} for intent in ("bill", "line") for word in "abcde"]


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_a_clean_file_needs_no_home(empty, tmp_path):
    report = empty.json("validate", write(tmp_path / "gold.jsonl", *CLEAN))
    assert (report["errors"], report["texts"], report["labels"]) == (
        0,
        10,
        {"intent": {"bill": 5, "line": 5}},
    )
    assert not empty.home.exists()


def test_errors_and_warnings_decide_the_exit_code(empty, tmp_path):
    warned = write(tmp_path / "warned.jsonl", *CLEAN, {"text": "x", "intent": "once"})
    assert empty.json("validate", warned)["counts"] == {"rare_label": 1}
    assert empty.json("validate", warned, "--strict", code=1)["warnings"] == 1
    assert empty.json("validate", warned, "--rare", "1", "--strict")["warnings"] == 0
    wrong = write(tmp_path / "wrong.jsonl", *CLEAN, {"text": "A bill", "intent": "line"}, "rubbish")
    result = empty("validate", wrong)
    assert result.exit_code == ExitCode.ERROR
    assert "intent 'line' contradicts 'bill' of line 1" in result.stdout
    assert "not JSON" in result.stdout


def test_a_test_file_is_compared_with_the_texts(empty, tmp_path):
    gold = write(tmp_path / "gold.jsonl", *CLEAN)
    test = write(
        tmp_path / "test.jsonl", {"text": "A BILL.", "intent": "bill"}, {"text": "new", "intent": "sun"}
    )
    report = empty.json("validate", gold, "--test", test, code=1)
    assert report["counts"] == {"leak": 1, "unknown_test_label": 1}
    assert report["findings"][0]["test_lines"] == [1]


def test_a_tenant_adds_its_stored_gold(cli, tmp_path):
    gold = write(tmp_path / "gold.jsonl", {"text": "explain my invoice bill", "intent": "outage"})
    assert cli.json("validate", gold, "--rare", "1")["errors"] == 0
    report = cli.json("validate", gold, TENANT, "--rare", "1", code=1)
    assert [one["message"] for one in report["findings"]] == [
        "intent 'outage' contradicts 'billing' of stored gold"
    ]
    unknown = cli("validate", gold, "telecm")
    assert "did you mean 'telecom'" in unknown.stderr


def test_columns_can_be_named(empty, tmp_path):
    gold = tmp_path / "gold.csv"
    gold.write_text("utterance;label\n" + "".join(f"{one['text']};{one['intent']}\n" for one in CLEAN))
    named = ("--map", "utterance=text", "--map", "label=intent")
    assert empty.json("validate", gold, *named)["texts"] == 10
    assert empty("validate", gold, "--map", "label").exit_code == ExitCode.USAGE
    assert empty("validate", gold, "--map", "label=intnt").exit_code == ExitCode.ERROR
    assert "--map COLUMN=text" in empty("validate", gold).stderr
