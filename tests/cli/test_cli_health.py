"""`status` as a health check, and commands while a model cannot be loaded."""

import shutil

import pytest

from karen_learner.errors import ExitCode
from tests.cli.conftest import TENANT, Cli

MODELS, BACKUPS = "models", "model_backups"


def test_a_healthy_home_has_exit_code_0(cli: Cli) -> None:
    one, everything = cli.json("status", TENANT), cli.json("status")
    assert one["healthy"]
    assert everything["healthy"]
    assert everything["tenants"][0]["healthy"]
    assert one["health"]["served_by"] == "model"
    assert one["health"]["since"]
    assert one["health"]["model_created_at"] == one["champion"]["created_at"]
    assert one["home_problems"] == []
    assert everything["home"]["disk"]["by_kind"]["models"] > 0
    assert everything["home"]["disk"]["free"] > 0
    shown = cli("status", TENANT).stdout
    assert "ok" in shown
    assert "model age" in shown
    assert "free" in shown


@pytest.mark.parametrize("words", [("status",), ("status", TENANT)])
def test_a_lost_model_has_an_exit_code_and_a_remedy(cli: Cli, words: tuple[str, ...]) -> None:
    shutil.rmtree(cli.home / MODELS)
    shutil.rmtree(cli.home / BACKUPS)
    found = cli.json(*words, code=ExitCode.UNHEALTHY)
    assert found["healthy"] is False
    shown = cli(*words)
    assert shown.exit_code == ExitCode.UNHEALTHY
    assert "UNHEALTHY" in shown.stdout
    assert "karen-learner repair" in shown.stdout.replace("\n", " ")


def test_analyses_by_rules_are_told(cli: Cli) -> None:
    shutil.rmtree(cli.home / MODELS)
    shutil.rmtree(cli.home / BACKUPS)
    done = cli("analyze", TENANT, "send me my bill", "hello")
    assert done.exit_code == 0
    assert done.stderr.count("the fallback answers, not v") == 1
    assert "missing" in done.stderr


def test_a_lost_model_with_a_backup_serves(cli: Cli) -> None:
    shutil.rmtree(cli.home / MODELS)
    assert cli.json("status")["healthy"]
    assert cli.json("status", TENANT)["health"]["served_by"] == "model"
    assert cli.json("status", TENANT)["health"]["problems"] == []


def test_a_home_that_others_may_enter_is_told(cli: Cli) -> None:
    cli.home.chmod(0o755)
    found = cli.json("status")
    assert found["healthy"]
    assert "755" in found["home"]["problems"][0]["message"]
    assert "chmod" in cli("status", TENANT).stdout
