"""The command `notify`."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from karen_learner.cli import app

TARGETS = '{"ops": {"kind": "slack", "url": "http://127.0.0.1:9/t0ken", "allow_private": true}}'


def test_a_test_message_needs_no_home_and_tells_what_fails(tmp_path: Path) -> None:
    words = ["--home", str(tmp_path / "no-home"), "--set", f"notifications.targets={TARGETS}"]
    done = CliRunner().invoke(app, [*words, "notify", "test", "--json"])
    assert done.exit_code == 7, done.output
    [result] = json.loads(done.stdout)
    assert result["target"] == "ops"
    assert "cannot be connected to" in result["error"]
    assert "t0ken" not in done.output
    assert not (tmp_path / "no-home").exists()


def test_a_test_message_without_a_target_is_an_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--home", str(tmp_path), "notify", "test"])
    assert done.exit_code == 1
    assert "no target is set" in done.output


def test_the_status_lists_targets(tmp_path: Path) -> None:
    words = ["--home", str(tmp_path), "--set", f"notifications.targets={TARGETS}"]
    assert CliRunner().invoke(app, [*words, "init"]).exit_code == 0
    done = CliRunner().invoke(app, [*words, "notify", "status"])
    assert done.exit_code == 0, done.output
    assert "ops" in done.output
    assert "t0ken" not in (tmp_path / "karen.cfg").read_text() + done.output
