"""The commands `troubleshoot`, `incidents` and `alerts`."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from karen_learner.cli import app
from tests.conftest import ACME, TINY


def run(home: Path, *words: str) -> Result:
    options = [part for name, value in TINY.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    options += ["--set", 'troubleshooter.diagnoses=["damaged_version"]']
    return CliRunner().invoke(app, ["--home", str(home), *options, *words])


def test_a_problem_is_found_paused_mended_and_told(taught_home: Path) -> None:
    [meta] = taught_home.glob("models/*/v0001-*/meta.json")
    meta.write_text("{}")
    found = run(taught_home, "troubleshoot", ACME, "--dry-run", "--json")
    assert found.exit_code == 7, found.output
    [issue] = json.loads(found.stdout)
    assert (issue["type"], issue["next_remedy"]) == ("damaged_version", "restore_version")
    assert run(taught_home, "incidents").exit_code == 0, "a dry run stores nothing"
    assert run(taught_home, "incidents", "pause", "restore_version").exit_code == 2
    for remedy in ("restore_version", "rollback"):
        assert run(taught_home, "incidents", "pause", remedy, "--reason", "I look").exit_code == 0
    assert run(taught_home, "troubleshoot", ACME).exit_code == 7
    assert run(taught_home, "alerts").exit_code == 7
    [incident] = json.loads(run(taught_home, "incidents", "--json").stdout)
    part = incident["incident_id"][-8:]
    done = run(taught_home, "incidents", "acknowledge", part, "--reason", "a person restores it")
    assert done.exit_code == 0, done.output
    assert "acknowledged: a person restores it" in run(taught_home, "incidents", "show", part).output
    assert run(taught_home, "alerts").exit_code == 0
    assert run(taught_home, "incidents", "show", "nothing").exit_code == 1
