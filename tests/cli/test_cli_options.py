"""Common options, errors and exit codes."""

import logging
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from karen_learner.cli import app
from karen_learner.cli.app import EXIT_CODE_MEANINGS, explained
from karen_learner.errors import STATUS_EXIT_CODES, ExitCode, StoreError, cycle_exit_code

TENANT = "telecom"


def test_a_call_without_a_command_prints_the_help(empty):
    result = CliRunner().invoke(app, [])
    assert result.exit_code == ExitCode.USAGE
    assert "bootstrap" in result.stdout


def test_version_prints_the_installed_version():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == ExitCode.OK
    assert result.stdout.startswith("karen-learner ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("bogus",), "No such command 'bogus'"),
        (("status", "--bogus"), "--bogus"),
        (("learn",), "TENANT"),
        (("learn", TENANT, "--mode", "sideways"), "sideways"),
        (("analyze", TENANT), "TEXT"),
        (("status", "--set", "learning"), "section.key=value"),
        (("status", "--config", "nowhere.cfg"), "nowhere.cfg"),
        (("status", "--set", "learning.min_data_treshold=3"), "did you mean 'min_data_threshold'?"),
        (("status", "--set", "learnin.min_data_threshold=3"), "did you mean 'learning'?"),
        (("status", "--set", "training.n_iter=many"), "many"),
    ],
)
def test_an_invalid_command_line_is_a_usage_error(cli, words, expected):
    result = cli(*words)
    assert result.exit_code == ExitCode.USAGE
    assert result.stdout == ""
    assert result.stderr.startswith("karen-learner: error: ")
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1
    assert expected in cli.json(*words, code=ExitCode.USAGE)["error"]


def test_a_text_that_looks_like_an_option_does_not_change_the_output(cli):
    result = cli("status", "--bogus", "--", "--json")
    assert result.exit_code == ExitCode.USAGE
    assert result.stdout == ""


def test_common_options_work_before_and_after_the_command(cli, tmp_path):
    runner = CliRunner()
    home = ("--home", str(cli.home))
    before = runner.invoke(app, [*home, "--json", "status", TENANT])
    after = runner.invoke(app, ["status", TENANT, "--json", *home])
    last_wins = runner.invoke(app, ["--home", str(tmp_path), "status", TENANT, "--json", *home])
    assert before.stdout == after.stdout == last_wins.stdout
    assert before.stdout.startswith("{")


def test_the_environment_variable_sets_the_home(cli):
    result = CliRunner(env={"KAREN_HOME": str(cli.home)}).invoke(app, ["status", TENANT])
    assert "v0002" in result.stdout


def test_settings_before_and_after_the_command_all_apply(cli):
    words = ["--set", "learning.min_data_threshold=1", "status", TENANT, "--set", "training.n_iter=0"]
    result = CliRunner().invoke(app, ["--home", str(cli.home), *words])
    assert "n_iter" in result.stderr


def test_debug_prints_the_stack_trace(cli):
    assert "Traceback" in cli("status", "nobody", "--debug").stderr
    assert "Traceback" not in cli("status", "nobody").stderr


def test_an_unexpected_error_is_reported_with_its_type_and_the_debug_option():
    assert explained(RuntimeError("the sky fell")) == (
        "unexpected RuntimeError: the sky fell (--debug prints the trace)",
        ExitCode.ERROR,
    )


def test_an_error_of_a_cycle_names_the_backup():
    error = StoreError("the journal cannot be written")
    error.backup_path = Path("/backups/v1.tar.gz")
    assert explained(error)[0].endswith("(backup of the live model: /backups/v1.tar.gz)")


def test_a_corrupt_database_is_a_one_line_error(empty):
    empty.home.mkdir()
    (empty.home / "karen.db").write_text("this is no database, " * 100)
    result = empty("status")
    assert result.exit_code == ExitCode.ERROR
    assert result.stderr.count("\n") == 1
    assert "unexpected" not in result.stderr


def test_a_command_restores_the_logging_configuration(cli):
    root, package = logging.getLogger(), logging.getLogger("karen_learner")
    before = list(root.handlers), package.level, warnings.showwarning
    cli("status", "--debug")
    assert (list(root.handlers), package.level, warnings.showwarning) == before


def test_exit_codes_of_cycles_and_their_meanings():
    statuses = ("deployed", "rolled_back", "rejected", "skipped", "failed")
    assert [STATUS_EXIT_CODES[status] for status in statuses] == [0, 0, 3, 4, 5]
    assert set(EXIT_CODE_MEANINGS) == set(ExitCode)


@pytest.mark.parametrize(
    ("status", "decision", "code"),
    [
        ("deployed", "accepted", 0),
        ("rejected", "too_close", 6),
        ("rejected", "worse", 3),
        ("rejected", "refused", 3),
        ("rejected", None, 3),
        ("failed", "accepted", 5),
        ("rolled_back", "too_close", 0),
    ],
)
def test_decisions_that_are_not_final_have_their_own_exit_codes(status, decision, code):
    assert cycle_exit_code(status, decision) == code
