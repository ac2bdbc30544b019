"""The command `improvements`."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from karen_learner.cli import app
from tests.conftest import ACME


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["--home", str(home), "improvements", ACME, *words])


def test_a_ticket_is_opened_made_measured_and_dismissed(taught_home: Path) -> None:
    assert "no ticket" in run(taught_home).output
    assert run(taught_home, "open").exit_code == 2
    planned = run(taught_home, "open", "shorter questions", "--dry-run")
    assert "unknown: too few data" in planned.output
    assert json.loads(run(taught_home, "--json").stdout)["tickets"] == []
    opened = json.loads(run(taught_home, "open", "shorter questions", "--cost", "20", "--json").stdout)
    part = opened["ticket_id"][-8:]
    assert run(taught_home, "mark", part).exit_code == 2, "it needs --details"
    assert run(taught_home, "mark", part, "--details", "template 7").exit_code == 0
    assert "Preliminary" in run(taught_home, "measure", part).output
    assert "template 7" in run(taught_home, "show", part).output
    assert "0 of 1 tickets" in run(taught_home).output
    assert run(taught_home, "dismiss", part, "--details", "no use").exit_code == 0
    assert json.loads(run(taught_home, "show", part, "--json").stdout)["status"] == "dismissed"
    assert run(taught_home, "show", "nothing").exit_code == 1
    assert run(taught_home, "list", "--metric", "happiness").exit_code == 1
