"""`rollback`: targets, confirmation, dry run and errors."""

import pytest

from karen_learner.errors import ExitCode

TENANT = "telecom"


def live(cli):
    return cli.json("status", TENANT)["champion"]["version"]


@pytest.fixture
def names(cli):
    return [version["version"] for version in cli.json("versions", TENANT)]


def test_rollback_restores_the_parent_and_then_the_newer_version(cli, names):
    newest, first = names
    result = cli("rollback", TENANT, "--yes")
    assert result.exit_code == ExitCode.OK
    assert f"rollback {TENANT} {newest}" in result.stdout
    assert live(cli) == first
    assert cli.json("rollback", TENANT, newest, "--yes")["done"] is True
    assert live(cli) == newest


def test_a_dry_run_of_rollback_changes_nothing(cli, names):
    document = cli.json("rollback", TENANT, "--dry-run")
    assert document["done"] is False
    assert document["version"]["version"] == names[1]
    assert "nothing changed" in cli("rollback", TENANT, "--dry-run").stdout
    assert live(cli) == names[0]


def test_rollback_restores_a_backup(cli, names):
    backup = cli.json("versions", TENANT)[1]["backup_path"]
    assert cli("rollback", TENANT, "--backup", backup, "--yes").exit_code == ExitCode.OK
    assert live(cli) == names[1]


@pytest.mark.parametrize(
    ("answer", "code", "position"), [("y\n", ExitCode.OK, 1), ("n\n", ExitCode.SKIPPED, 0)]
)
def test_rollback_asks_for_confirmation(cli, names, answer, code, position):
    result = cli("rollback", TENANT, input=answer)
    assert result.exit_code == code
    assert "[y/N]" in result.stderr
    assert live(cli) == names[position]


def test_rollback_without_an_answer_names_the_option_yes(cli, names):
    result = cli("rollback", TENANT)
    assert result.exit_code == ExitCode.USAGE
    assert "--yes" in result.stderr
    assert live(cli) == names[0]


def test_rollback_to_an_impossible_target_is_an_error(cli, names, trained):
    assert "no version 'v9'" in cli("rollback", TENANT, "v9").stderr
    assert "already live" in cli("rollback", TENANT, names[0], "--yes").stderr
    assert cli("rollback", TENANT, names[1], "--backup", trained.examples).exit_code == ExitCode.USAGE
    result = cli("rollback", TENANT, "--backup", trained.examples, "--yes")
    assert result.exit_code == ExitCode.ERROR
    assert "not a backup" in result.stderr
    assert live(cli) == names[0]


def test_a_backup_of_another_tenant_is_rejected(cli, tmp_path):
    backup = cli.json("versions", TENANT)[1]["backup_path"]
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "good morning", "intent": "greeting"}\n')
    assert cli("ingest", "other", other).exit_code == ExitCode.OK
    result = cli("rollback", "other", "--backup", backup, "--yes")
    assert result.exit_code == ExitCode.ERROR
    assert "is a backup of the tenant 'telecom', not of 'other'" in result.stderr
