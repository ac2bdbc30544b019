"""`bootstrap` and `learn`: what they tell, what they exit with, and what they leave alone."""

import re

import pytest

from karen_learner.cli.exits import ExitCode

TENANT = "telecom"
QUICK = (
    "--set",
    "training.n_iter=1",
    "--set",
    "training.min_updates=0",
    "--set",
    "gate.max_cross_validated=0",
)


def test_a_bootstrap_tells_what_was_left_out_and_what_is_live(taught):
    told = taught.bootstrap
    assert told.exit_code == ExitCode.OK
    assert "24 new examples" in told.stdout
    assert "unknown key 'shoe'" in told.stdout
    assert "DEPLOYED" in told.stdout
    assert "this is the first version" in told.stdout


def test_a_cycle_tells_verdict_scores_counts_and_how_to_undo_it(taught):
    told = taught.learn.stdout
    assert taught.learn.exit_code == ExitCode.OK
    for expected in ("DEPLOYED  v0002", "9 new, 18 replayed", "95 % interval"):
        assert expected in told
    assert re.search(r"\d\.\d{3}.*\d\.\d{3}.*[+-]\d\.\d{3}", told)  # before, after, difference
    assert "rollback telecom v0001" in told
    assert taught.learn.stderr == ""


def test_the_result_of_a_cycle_is_one_document(cli):
    result = cli.json("history", TENANT)[0]
    assert result["status"] == "deployed"
    assert result["reason"] == "greetings"


def test_a_cycle_that_makes_nothing_better_is_rejected(cli):
    result = cli.json("learn", TENANT, "--force", "--mode", "full", *QUICK, code=ExitCode.REJECTED)
    assert result["status"] == "rejected"
    assert cli.json("status", TENANT)["champion"]["version"] == result["previous_version"]


def test_a_rejection_says_that_the_live_model_stays(cli):
    told = cli("learn", TENANT, "--force", "--mode", "full", *QUICK).stdout
    assert "REJECTED" in told
    assert "stays v0002" in told
    assert "no task got better" in told


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
    assert "nothing was changed" in told


def test_a_bootstrap_with_json_is_one_document_with_both_reports(empty, taught):
    document = empty.json("bootstrap", "new", taught.examples, *QUICK)
    assert document["status"] == "deployed"
    assert document["ingested"]["examples"] == 24
    assert [line["line"] for line in document["ingested"]["skipped"]] == [25]


def test_stages_are_told_when_asked_for(cli):
    told = cli("learn", TENANT, "--verbose")
    assert "curating" in told.stderr
    assert "curating" not in cli("learn", TENANT).stderr
