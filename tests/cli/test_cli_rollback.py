"""`rollback`: to the version before, to a named one, from a backup; asked, planned, refused."""

import pytest

from karen_learner.cli.exit_codes import ExitCode

TENANT = "telecom"


def live(cli):
    return cli.json("status", TENANT)["champion"]["version"]


@pytest.fixture
def names(cli):
    return [version["version"] for version in cli.json("versions", TENANT)]


def test_back_to_the_version_before_and_forth_again(cli, names):
    newest, first = names
    told = cli("rollback", TENANT, "--yes")
    assert told.exit_code == ExitCode.OK
    assert f"rollback {TENANT} {newest}" in told.stdout
    assert live(cli) == first
    assert cli.json("rollback", TENANT, newest, "--yes")["done"] is True
    assert live(cli) == newest


def test_a_dry_run_changes_nothing(cli, names):
    document = cli.json("rollback", TENANT, "--dry-run")
    assert document["done"] is False
    assert document["version"]["version"] == names[1]
    assert "nothing changed" in cli("rollback", TENANT, "--dry-run").stdout
    assert live(cli) == names[0]


def test_from_a_backup(cli, names):
    backup = cli.json("versions", TENANT)[1]["backup_path"]
    assert cli("rollback", TENANT, "--backup", backup, "--yes").exit_code == ExitCode.OK
    assert live(cli) == names[1]


@pytest.mark.parametrize(
    ("answer", "code", "position"), [("y\n", ExitCode.OK, 1), ("n\n", ExitCode.SKIPPED, 0)]
)
def test_it_asks_first(cli, names, answer, code, position):
    told = cli("rollback", TENANT, input=answer)
    assert told.exit_code == code
    assert "[y/N]" in told.stderr
    assert live(cli) == names[position]


def test_with_nobody_to_answer_it_says_what_to_do(cli, names):
    told = cli("rollback", TENANT)
    assert told.exit_code == ExitCode.USAGE
    assert "--yes" in told.stderr
    assert live(cli) == names[0]


def test_what_cannot_be_rolled_back_to(cli, names, taught):
    assert "no version 'v9'" in cli("rollback", TENANT, "v9").stderr
    assert "already live" in cli("rollback", TENANT, names[0], "--yes").stderr
    assert cli("rollback", TENANT, names[1], "--backup", taught.examples).exit_code == ExitCode.USAGE
    told = cli("rollback", TENANT, "--backup", taught.examples, "--yes")
    assert told.exit_code == ExitCode.ERROR
    assert "not a backup" in told.stderr
    assert live(cli) == names[0]


def test_a_backup_of_another_tenant_is_refused(cli, tmp_path):
    backup = cli.json("versions", TENANT)[1]["backup_path"]
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "good morning", "intent": "greeting"}\n')
    assert cli("ingest", "other", other).exit_code == ExitCode.OK
    told = cli("rollback", "other", "--backup", backup, "--yes")
    assert told.exit_code == ExitCode.ERROR
    assert "is a backup of the tenant 'telecom', not of 'other'" in told.stderr
