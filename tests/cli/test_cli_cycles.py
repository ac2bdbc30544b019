"""`bootstrap` and `learn`: output, exit codes and side effects."""

import json
import re

import pytest

from karen_learner.errors import ExitCode
from tests.cli.conftest import write_lines

TENANT = "telecom"
NAMES = ("ann", "bob", "cid", "dora", "eva", "finn", "gus", "hal", "ida", "jim", "kim", "leo")


def _cells(output, first):
    """The other cells of the table line that begins with `first`."""
    rows = (re.split(r"\s{2,}", line.strip()) for line in output.splitlines())
    return next(cells[1:] for cells in rows if cells[0] == first and len(cells) > 2)


def test_a_bootstrap_reports_skipped_lines_and_the_live_version(trained):
    result = trained.bootstrap
    assert result.exit_code == ExitCode.OK
    assert "24 new examples" in result.stdout
    assert "but 'shoe'" in result.stdout
    assert "DEPLOYED" in result.stdout
    assert "first version: no rollback possible" in result.stdout
    assert _cells(result.stdout, "intent") == ["24", "1.000", "0.862 to 1.000"]


def test_learn_prints_verdict_scores_counts_and_the_undo_command(trained):
    result = trained.learn.stdout
    assert trained.learn.exit_code == ExitCode.OK
    for expected in ("DEPLOYED  v0002", "12 new, 24 replayed", "95 % interval"):
        assert expected in result
    # 24 of 36 correct before (twelve are greetings), all 36 after; Wilson: 36 / (36 + 1.96 ** 2)
    assert _cells(result, "intent") == ["36", "0.667", "1.000", "+0.333", "0.904 to 1.000"]
    assert _cells(result, "all") == ["-", "0.667", "1.000", "+0.333", "1.000 to 1.000"]
    assert "new labels need no gain: 'greeting'" in result
    assert "thresholds: met" in result
    assert "rollback telecom v0001" in result
    assert trained.learn.stderr == ""


def test_a_cycle_result_is_one_json_document(cli):
    result = cli.json("history", TENANT)[0]
    assert result["status"] == "deployed"
    assert result["reason"] == "greetings"
    assert result["baseline"]["intent_accuracy"] == 24 / 36
    assert result["validation"]["intent_accuracy"] == result["validation"]["accuracy"] == 1.0
    assert result["validation"]["counts"]["intent"] == 36
    assert result["validation"]["errors"] == []
    assert result["verdict"]["improved"] == ["intent"]


def test_a_cycle_without_improvement_is_rejected(cli, tmp_path, fast):
    bills = [{"text": f"{name} pays my invoice bill", "intent": "billing"} for name in NAMES[:4]]
    cli("ingest", TENANT, write_lines(tmp_path / "bills.jsonl", bills))
    result = cli("learn", TENANT, "--force", "--mode", "full", *fast)
    assert result.exit_code == ExitCode.TOO_CLOSE
    assert "TOO CLOSE" in result.stdout
    assert "unchanged: v0002" in result.stdout
    assert "no gain is shown" in result.stdout
    assert _cells(result.stdout, "intent") == ["40", "1.000", "1.000", "+0.000", "0.912 to 1.000"]
    last = cli.json("history", TENANT)[0]
    assert last["status"] == "rejected"
    assert last["baseline"]["accuracy"] == last["validation"]["accuracy"] == 1.0
    assert last["verdict"]["improved"] == []
    assert not last["verdict"]["harmful"]
    assert cli.json("status", TENANT)["champion"]["version"] == last["previous_version"]


def test_a_cycle_without_enough_examples_is_skipped(cli):
    result = cli("learn", TENANT)
    assert result.exit_code == ExitCode.SKIPPED
    assert "there is nothing new to learn" in result.stdout


def test_a_failed_cycle_has_its_own_exit_code(cli, tmp_path):
    broken = tmp_path / "broken.cfg"
    broken.write_text("[nlp]\nlang = 'nosuchlanguage'\n")
    result = cli("learn", TENANT, "--force", "--mode", "full", "--set", f"training.pipeline={broken}")
    assert result.exit_code == ExitCode.FAILED
    assert "FAILED" in result.stdout
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("options", "code", "would_run"),
    [((), ExitCode.SKIPPED, False), (("--force", "--mode", "full"), ExitCode.OK, True)],
)
def test_a_dry_run_of_learn_reports_the_plan_and_changes_nothing(cli, files_of, options, code, would_run):
    before = cli.json("history", TENANT), cli.json("status", TENANT), files_of(cli.home)
    planned = cli.json("learn", TENANT, "--dry-run", *options, code=code)
    assert planned["would_run"] is would_run
    assert (cli.json("history", TENANT), cli.json("status", TENANT), files_of(cli.home)) == before


def test_a_dry_run_prints_the_plan(cli):
    result = cli("learn", TENANT, "--dry-run").stdout
    assert "would be skipped" in result
    assert "nothing changed" in result


def test_bootstrap_with_json_prints_one_document_with_both_reports(empty, trained, fast):
    document = empty.json("bootstrap", "new", trained.examples, *fast)
    assert document["status"] == "deployed"
    assert document["validation"]["intent_accuracy"] == 1.0
    assert document["ingested"]["examples"] == 24
    assert [line["line"] for line in document["ingested"]["skipped"]] == [25]


def test_the_texts_of_confusions_and_flips_are_a_part_of_the_document(cli, tmp_path, fast):
    wrong = [{"text": f"{name} wants the wifi router", "intent": "billing"} for name in NAMES]
    cli("ingest", TENANT, write_lines(tmp_path / "wrong.jsonl", wrong))
    words = ("learn", TENANT, "--force", "--mode", "full", *fast, "--set", "training.n_iter=1", "--json")
    document = json.loads(cli(*words).stdout)
    ids = [name for error in document["validation"]["errors"] for name in error["example_ids"]]
    changed = [flip["example_id"] for flip in document["flips"]["first"]]
    assert ids
    assert changed
    assert document["example_texts"].keys() == {*ids, *changed}
    assert all(document["example_texts"].values())


def test_verbose_prints_the_stages(cli):
    result = cli("learn", TENANT, "--verbose")
    assert "curating" in result.stderr
    assert "curating" not in cli("learn", TENANT).stderr
