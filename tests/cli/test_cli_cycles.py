"""`bootstrap` and `learn`: what they tell, what they exit with, and what they leave alone."""

import re

import pytest

from karen_learner.cli.exit_codes import ExitCode

TENANT = "telecom"


def _cells(told, first):
    """The cells after `first` in the row of a table that begins with it."""
    rows = (re.split(r"\s{2,}", line.strip()) for line in told.splitlines())
    return next(cells[1:] for cells in rows if cells[0] == first and len(cells) > 2)


def test_a_bootstrap_tells_what_was_left_out_and_what_is_live(taught):
    told = taught.bootstrap
    assert told.exit_code == ExitCode.OK
    assert "24 new examples" in told.stdout
    assert "unknown key 'shoe'" in told.stdout
    assert "DEPLOYED" in told.stdout
    assert "first version: no rollback possible" in told.stdout
    assert _cells(told.stdout, "intent") == ["4", "-", "1.000", "-", "0.510 to 1.000", "-"]


def test_a_cycle_tells_verdict_scores_counts_and_how_to_undo_it(taught):
    told = taught.learn.stdout
    assert taught.learn.exit_code == ExitCode.OK
    for expected in ("DEPLOYED  v0002", "9 new, 18 replayed", "95 % interval"):
        assert expected in told
    # four of six right before, since two are greetings; all six after. Wilson: 6 / (6 + 1.96 ** 2)
    assert _cells(told, "intent") == ["6", "0.667", "1.000", "+0.333", "0.610 to 1.000", "-"]
    assert _cells(told, "all") == ["-", "0.667", "1.000", "+0.333", "1.000 to 1.000", "-"]
    assert "improved: intent" in told
    assert "thresholds: met" in told
    assert "rollback telecom v0001" in told
    assert taught.learn.stderr == ""


def test_the_result_of_a_cycle_is_one_document(cli):
    result = cli.json("history", TENANT)[0]
    assert result["status"] == "deployed"
    assert result["reason"] == "greetings"
    assert result["baseline"]["intent_accuracy"] == 4 / 6
    assert result["validation"]["intent_accuracy"] == result["validation"]["accuracy"] == 1.0
    assert result["validation"]["counts"]["intent"] == 6
    assert result["validation"]["errors"] == []
    assert result["verdict"]["improved"] == ["intent"]


NOT_BY_BEING_SURER = ("--set", "gate.margin_standard_errors=1000")
"""A model that is right as often may well be a little surer: no difference is so many standard errors."""


def test_a_cycle_that_makes_nothing_better_is_rejected(cli, sure):
    words = ("learn", TENANT, "--force", "--mode", "full", *sure, *NOT_BY_BEING_SURER)
    result = cli.json(*words, code=ExitCode.REJECTED)
    assert result["status"] == "rejected"
    assert result["baseline"]["accuracy"] == result["validation"]["accuracy"] == 1.0
    assert result["verdict"]["improved"] == []
    assert not result["verdict"]["harmful"]
    assert cli.json("status", TENANT)["champion"]["version"] == result["previous_version"]


def test_a_rejection_says_that_the_live_model_stays(cli, sure):
    told = cli("learn", TENANT, "--force", "--mode", "full", *sure, *NOT_BY_BEING_SURER).stdout
    assert "REJECTED" in told
    assert "unchanged: v0002" in told
    assert "no task improved" in told
    assert _cells(told, "intent") == ["6", "1.000", "1.000", "+0.000", "0.610 to 1.000", "-"]


def test_a_cycle_without_enough_examples_is_skipped(cli):
    told = cli("learn", TENANT)
    assert told.exit_code == ExitCode.SKIPPED
    assert "there is nothing new to learn" in told.stdout


def test_a_cycle_that_fails_is_told_as_failed(cli, tmp_path):
    broken = tmp_path / "broken.cfg"
    broken.write_text("[nlp]\nlang = 'nosuchlanguage'\n")
    told = cli("learn", TENANT, "--force", "--mode", "full", "--set", f"training.pipeline={broken}")
    assert told.exit_code == ExitCode.FAILED
    assert "FAILED" in told.stdout
    assert "Traceback" not in told.output


@pytest.mark.parametrize(
    ("options", "code", "would_run"),
    [((), ExitCode.SKIPPED, False), (("--force", "--mode", "full"), ExitCode.OK, True)],
)
def test_a_dry_run_tells_and_changes_nothing(cli, files_of, options, code, would_run):
    before = cli.json("history", TENANT), cli.json("status", TENANT), files_of(cli.home)
    planned = cli.json("learn", TENANT, "--dry-run", *options, code=code)
    assert planned["would_run"] is would_run
    assert (cli.json("history", TENANT), cli.json("status", TENANT), files_of(cli.home)) == before


def test_a_dry_run_in_words(cli):
    told = cli("learn", TENANT, "--dry-run").stdout
    assert "would be skipped" in told
    assert "nothing changed" in told


def test_a_bootstrap_with_json_is_one_document_with_both_reports(empty, taught, sure):
    document = empty.json("bootstrap", "new", taught.examples, *sure)
    assert document["status"] == "deployed"
    assert document["validation"]["intent_accuracy"] == 1.0
    assert document["ingested"]["examples"] == 24
    assert [line["line"] for line in document["ingested"]["skipped"]] == [25]


def test_stages_are_told_when_asked_for(cli):
    told = cli("learn", TENANT, "--verbose")
    assert "curating" in told.stderr
    assert "curating" not in cli("learn", TENANT).stderr
