"""The options of every command, errors and exit codes, and what leaks nowhere."""

import logging
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from karen_learner.cli import app
from karen_learner.cli.app import explained
from karen_learner.cli.exit_codes import MEANINGS, ExitCode, exit_for
from karen_learner.errors import StoreError

TENANT = "telecom"


def test_without_a_command_the_help_is_shown(empty):
    told = CliRunner().invoke(app, [])
    assert told.exit_code == ExitCode.USAGE
    assert "bootstrap" in told.stdout


def test_the_version():
    told = CliRunner().invoke(app, ["--version"])
    assert told.exit_code == ExitCode.OK
    assert told.stdout.startswith("karen-learner ")


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
def test_what_is_typed_wrongly(cli, words, expected):
    told = cli(*words)
    assert told.exit_code == ExitCode.USAGE
    assert told.stdout == ""
    assert told.stderr.startswith("karen-learner: error: ")
    assert expected in told.stderr
    assert told.stderr.count("\n") == 1


def test_common_options_stand_before_or_after_the_command(cli, tmp_path):
    runner = CliRunner()
    home = ("--home", str(cli.home))
    before = runner.invoke(app, [*home, "--json", "status", TENANT])
    after = runner.invoke(app, ["status", TENANT, "--json", *home])
    last_wins = runner.invoke(app, ["--home", str(tmp_path), "status", TENANT, "--json", *home])
    assert before.stdout == after.stdout == last_wins.stdout
    assert before.stdout.startswith("{")


def test_the_home_is_taken_from_the_environment(cli):
    told = CliRunner(env={"KAREN_HOME": str(cli.home)}).invoke(app, ["status", TENANT])
    assert "v0002" in told.stdout


def test_settings_given_in_both_places_all_count(cli):
    words = ["--set", "learning.min_data_threshold=1", "status", TENANT, "--set", "training.n_iter=0"]
    told = CliRunner().invoke(app, ["--home", str(cli.home), *words])
    assert "n_iter" in told.stderr


def test_debug_shows_the_trace(cli):
    assert "Traceback" in cli("status", "nobody", "--debug").stderr
    assert "Traceback" not in cli("status", "nobody").stderr


def test_an_unexpected_error_is_told_by_its_name_with_advice():
    assert explained(RuntimeError("the sky fell")) == (
        "unexpected RuntimeError: the sky fell (--debug prints the trace)",
        ExitCode.ERROR,
    )


def test_what_a_cycle_raises_tells_the_backup():
    error = StoreError("the journal cannot be written")
    error.backup_path = Path("/backups/v1.tar.gz")
    assert explained(error)[0].endswith("(backup of the live model: /backups/v1.tar.gz)")


def test_a_database_that_is_no_database(empty):
    empty.home.mkdir()
    (empty.home / "karen.db").write_text("this is no database, " * 100)
    told = empty("status")
    assert told.exit_code == ExitCode.ERROR
    assert told.stderr.count("\n") == 1
    assert "unexpected" not in told.stderr


def test_logging_is_as_it_was_afterwards(cli):
    root, package = logging.getLogger(), logging.getLogger("karen_learner")
    before = list(root.handlers), package.level, warnings.showwarning
    cli("status", "--debug")
    assert (list(root.handlers), package.level, warnings.showwarning) == before


def test_every_way_a_cycle_ends_has_a_code():
    codes = [exit_for(status) for status in ("deployed", "rolled_back", "rejected", "skipped", "failed")]
    assert codes == [0, 0, 3, 4, 5]
    assert set(MEANINGS) == set(ExitCode)
