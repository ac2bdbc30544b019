"""`rollback`, `release` and `discard`: targets, confirmation, dry run and errors."""

import json

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


def test_rollback_names_the_number_of_waiting_examples_and_the_next_commands(cli, names):
    planned = cli.json("rollback", TENANT, "--dry-run")["waiting"]
    assert planned > 0
    for words in (("--dry-run",), ("--yes",)):
        shown = cli("rollback", TENANT, *words).stdout
        assert f"{planned} examples wait" in shown
        assert f"release {TENANT}\n" in shown
        assert f"discard {TENANT}\n" in shown
    assert cli.json("status", TENANT)["counts"]["waiting"] == planned
    shown = cli("status", TENANT).stdout
    assert f"{planned} examples wait because of a rollback" in shown
    assert "`karen-learner release` or `karen-learner discard`" in shown
    assert cli.json("rollback", TENANT, names[0], "--dry-run")["waiting"] == 0


def test_release_makes_waiting_examples_pending(cli):
    waiting = cli.json("rollback", TENANT, "--yes")["waiting"]
    document = {"tenant_id": TENANT, "examples": waiting}
    assert cli.json("release", TENANT, "--dry-run") == document | {"done": False}
    assert f"{waiting} examples wait" in cli("release", TENANT, "--dry-run").stdout
    assert cli.json("release", TENANT) == document | {"done": True}
    counts = cli.json("status", TENANT)["counts"]
    assert (counts["waiting"], counts["examples"].get("pending", 0)) == (0, waiting)
    assert cli.json("release", TENANT, code=ExitCode.SKIPPED)["examples"] == 0
    assert cli("release", TENANT, "--dry-run").exit_code == ExitCode.SKIPPED


def test_discard_asks_for_confirmation(cli):
    waiting = cli.json("rollback", TENANT, "--yes")["waiting"]
    document = {"tenant_id": TENANT, "examples": waiting, "done": False}
    assert cli.json("discard", TENANT, "--dry-run") == document
    assert cli.json("discard", TENANT, input="n\n", code=ExitCode.SKIPPED) == document
    assert "--yes" in cli("discard", TENANT).stderr
    assert cli.json("status", TENANT)["counts"]["waiting"] == waiting
    result = cli("discard", TENANT, input="y\n")
    assert result.exit_code == ExitCode.OK
    assert f"{waiting} examples are discarded" in result.stdout
    counts = cli.json("status", TENANT)["counts"]
    assert (counts["waiting"], counts["examples"].get("pending", 0)) == (0, 0)
    assert counts["examples"]["quarantined"] == waiting
    result = cli("discard", TENANT)
    assert (result.exit_code, result.stderr) == (ExitCode.SKIPPED, "")


@pytest.mark.parametrize("tenant", ["it's; rm -rf ~", "[bold]x[/bold]", "\u202egnp", "a b/../c"])
def test_hostile_names_of_tenants_are_quoted(cli, tmp_path, tenant):
    path = tmp_path / "gold.jsonl"
    path.write_text('{"text": "good morning", "intent": "greeting"}\n')
    assert cli("ingest", tenant, path).exit_code == ExitCode.OK
    for command in ("release", "discard"):
        document = cli.json(command, tenant, code=ExitCode.SKIPPED)
        assert (document["tenant_id"], document["examples"]) == (tenant, 0)
        result = cli(command, f"{tenant}?", "--yes" if command == "discard" else "--dry-run")
        assert result.exit_code == ExitCode.ERROR
        assert "\u202e" not in result.output
        assert json.loads(cli(command, f"{tenant}?", "--json").stdout)["type"] == "UnknownTenant"
