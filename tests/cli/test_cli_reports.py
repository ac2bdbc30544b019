"""`status`, `history`, `versions`."""

import shutil
from pathlib import Path

import pytest

from karen_learner.errors import ExitCode

TENANT = "telecom"


def test_status_shows_champion_counts_and_next_step(cli):
    result = cli("status", TENANT)
    assert result.exit_code == ExitCode.OK
    for expected in ("v0002", "greeting", "36 gold", "intent_accuracy 1.000", "next step"):
        assert expected in result.stdout


def test_the_status_of_all_tenants_contains_counts_and_no_texts(cli):
    result = cli("status").stdout
    assert "telecom" in result
    assert "2 deployed" in result
    document = cli.json("status")
    assert document["metrics"]["total_cycles"] == 2
    assert document["tenants"][0]["last_cycle"] == "deployed"
    assert "errors" not in str(document)


def test_the_status_of_an_empty_home_names_the_bootstrap_command(empty):
    assert empty("init").exit_code == ExitCode.OK
    assert "bootstrap TENANT FILE" in empty("status").stdout
    assert empty.json("status")["tenants"] == []


def test_history_is_newest_first(cli):
    assert [result["reason"] for result in cli.json("history", TENANT)] == ["greetings", "bootstrap"]
    assert len(cli.json("history", TENANT, "--limit", "1")) == 1
    assert "0.667 → 1.000" in cli("history", TENANT).stdout


def test_versions_marks_the_live_version(cli):
    found = cli.json("versions", TENANT)
    assert [version["live"] for version in found] == [True, False]
    assert [version["scores"]["intent_accuracy"] for version in found] == [1.0, 1.0]
    rows = [line.split() for line in cli("versions", TENANT).stdout.splitlines() if "v000" in line]
    assert [("live" in row, "1.000" in row) for row in rows] == [(True, True), (False, True)]


def test_versions_without_files_are_marked_as_removed(cli):
    first = cli.json("versions", TENANT)[1]
    shutil.rmtree(first["path"])
    assert [version["removed"] for version in cli.json("versions", TENANT)] == [
        False,
        False,
    ]  # the backup exists
    Path(first["backup_path"]).unlink()
    assert [version["removed"] for version in cli.json("versions", TENANT)] == [False, True]
    line = [line for line in cli("versions", TENANT).stdout.splitlines() if first["version"] in line][-1]
    assert line.split()[:2] == ["removed", first["version"]]
    assert "model_backups" not in line


@pytest.mark.parametrize(
    "command", ["status", "history", "versions", "learn", "rollback", "release", "discard"]
)
def test_the_error_for_an_unknown_tenant_suggests_a_similar_name(cli, command):
    result = cli(command, "telecon")
    assert result.exit_code == ExitCode.ERROR
    assert result.stdout == ""
    assert result.stderr.startswith("karen-learner: error: nothing is stored for the tenant 'telecon'")
    assert "did you mean 'telecom'?" in result.stderr


def test_an_error_with_json_is_a_document(cli):
    document = cli.json("status", "nobody", code=ExitCode.ERROR)
    assert document["type"] == "UnknownTenant"
    assert "nobody" in document["error"]


@pytest.mark.parametrize(
    "command", [("status",), ("history", "x"), ("export", "x", "x.jsonl"), ("learn", "x")]
)
def test_reading_commands_in_a_wrong_folder_create_no_database(empty, command):
    result = empty(*command)
    assert result.exit_code == ExitCode.ERROR
    assert "karen-learner init" in result.stderr
    assert not empty.home.exists()


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("command", ["status", "history", "versions", "show"])
def test_tables_fit_into_the_columns_of_a_pipe(cli, monkeypatch, width, command):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = cli(command, TENANT).stdout.splitlines()
    assert max(map(len, lines)) <= width
    cycle = cli.json("history", TENANT)[0]["cycle_id"]
    if command in ("history", "show"):
        assert any(cycle[-8:] in line for line in lines), "the short id stays on one line"
    else:
        version = cli.json("versions", TENANT)[0]["version"]
        assert any(version in line for line in lines)


def test_a_pipe_without_columns_is_wide(cli, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    (row,) = [line for line in cli("history", TENANT).stdout.splitlines() if "greetings" in line]
    assert len(row) > 100


def test_short_ids_of_the_tables_are_accepted(cli):
    cycle = cli.json("history", TENANT)[1]["cycle_id"]
    assert cli.json("show", TENANT, cycle[-8:])["cycle_id"] == cycle
    assert cli.json("rollback", TENANT, "v0001", "--dry-run")["version"]["version"].startswith("v0001-")
    assert cli("compare", TENANT, "v0001", "v0002").exit_code == 0
    assert cli("show", TENANT, "zzzz").exit_code == 1


def test_history_gives_the_reasons_of_cycles_that_deployed_nothing(cli, fast):
    cli("learn", TENANT, *fast, "--set", "learning.min_data_threshold=1")
    last = cli.json("history", TENANT)[0]
    assert last["status"] != "deployed"
    assert f"{last['cycle_id'][-8:]}: {last['error_message']}" in cli("history", TENANT).stdout


@pytest.mark.parametrize("columns", ["", "0", "-5", "abc", "9" * 30, "²"])
def test_unusable_columns_are_ignored(cli, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert "greetings" in cli("history", TENANT).stdout
