"""`status`, `history`, `versions`."""

import shutil
from pathlib import Path

import pytest

from karen_learner.cli.exit_codes import ExitCode

TENANT = "telecom"


def test_the_status_of_a_tenant(cli):
    told = cli("status", TENANT)
    assert told.exit_code == ExitCode.OK
    for expected in ("v0002", "greeting", "6 in the holdout", "intent_accuracy 1.000", "next step"):
        assert expected in told.stdout


def test_the_status_of_all_tenants_has_counts_and_no_content(cli):
    told = cli("status").stdout
    assert "telecom" in told
    assert "2 deployed" in told
    document = cli.json("status")
    assert document["metrics"]["total_cycles"] == 2
    assert document["tenants"][0]["last_cycle"] == "deployed"
    assert "errors" not in str(document)


def test_a_home_without_tenants_says_what_to_type(empty):
    assert empty("init").exit_code == ExitCode.OK
    assert "bootstrap TENANT FILE" in empty("status").stdout
    assert empty.json("status")["tenants"] == []


def test_history_is_newest_first(cli):
    assert [result["reason"] for result in cli.json("history", TENANT)] == ["greetings", "bootstrap"]
    assert len(cli.json("history", TENANT, "--limit", "1")) == 1
    assert "0.667 > 1.000" in cli("history", TENANT).stdout


def test_versions_mark_the_live_one(cli):
    found = cli.json("versions", TENANT)
    assert [version["live"] for version in found] == [True, False]
    assert [version["scores"]["intent_accuracy"] for version in found] == [1.0, 1.0]
    rows = [line.split() for line in cli("versions", TENANT).stdout.splitlines() if "v000" in line]
    assert [("live" in row, "1.000" in row) for row in rows] == [(True, True), (False, True)]


def test_versions_past_the_retention_are_told_as_removed(cli):
    first = cli.json("versions", TENANT)[1]
    shutil.rmtree(first["path"])
    assert [version["removed"] for version in cli.json("versions", TENANT)] == [False, False]  # its backup
    Path(first["backup_path"]).unlink()
    assert [version["removed"] for version in cli.json("versions", TENANT)] == [False, True]
    line = [line for line in cli("versions", TENANT).stdout.splitlines() if first["version"] in line][-1]
    assert line.split()[:2] == ["removed", first["version"]]
    assert "model_backups" not in line


@pytest.mark.parametrize("command", ["status", "history", "versions", "learn", "rollback"])
def test_an_unknown_tenant_is_told_with_a_near_one(cli, command):
    told = cli(command, "telecon")
    assert told.exit_code == ExitCode.ERROR
    assert told.stdout == ""
    assert told.stderr.startswith("karen-learner: error: nothing is stored for the tenant 'telecon'")
    assert "did you mean 'telecom'?" in told.stderr


def test_with_json_an_error_is_the_document(cli):
    document = cli.json("status", "nobody", code=ExitCode.ERROR)
    assert document["type"] == "UnknownTenant"
    assert "nobody" in document["error"]


@pytest.mark.parametrize(
    "command", [("status",), ("history", "x"), ("export", "x", "x.jsonl"), ("learn", "x")]
)
def test_looking_into_a_wrong_folder_makes_no_database(empty, command):
    told = empty(*command)
    assert told.exit_code == ExitCode.ERROR
    assert "karen-learner init" in told.stderr
    assert not empty.home.exists()
