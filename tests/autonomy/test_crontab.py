"""Blocks of a crontab, and the command `schedule` with a `crontab` program that keeps a real file."""

from __future__ import annotations

import json
import os
import shlex
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from karen_learner.autonomy import log_files
from karen_learner.autonomy.os_schedule import block_lines, command_of, cron_line, read_times, with_block
from karen_learner.cli import app
from karen_learner.errors import InvalidInput

FOREIGN = b'MAILTO=""\n# mine \xff\r\n*/5 * * * * /usr/bin/true\t# 100\\% \n\n'
PROGRAM = """#!/bin/sh
case "$1" in
  -l) [ -f "$CRONTAB_FILE" ] && exec cat "$CRONTAB_FILE"; echo "no crontab for you" >&2; exit 1;;
  -) [ -n "$CRONTAB_REFUSES" ] && { echo "bad minute" >&2; exit 1; }; exec cat > "$CRONTAB_FILE";;
esac
exit 2
"""
SYSTEMCTL = '#!/bin/sh\necho "$@" >> "$CRONTAB_FILE.systemctl"\n'


# Blocks -----------------------------------------------------------------------------------------


@given(st.binary(max_size=80).filter(lambda text: b"karen_learner" not in text))
def test_foreign_bytes_survive_setting_changing_and_removing(foreign: bytes) -> None:
    first = with_block(foreign, "one", ["0 3 * * * a"])
    assert block_lines(first, "one") == ["0 3 * * * a"]
    both = with_block(with_block(first, "two", ["b"]), "one", ["0 4 * * * c"])
    assert (block_lines(both, "one"), block_lines(both, "two")) == (["0 4 * * * c"], ["b"])
    assert with_block(with_block(both, "two", []), "one", []) == foreign


@pytest.mark.parametrize(
    "damaged",
    [
        b"# BEGIN karen_learner one\n0 3 * * * a\n",
        b"# BEGIN karen_learner one\na\n# BEGIN karen_learner one\nb\n# END karen_learner one\n",
    ],
)
def test_a_damaged_block_is_refused(damaged: bytes) -> None:
    with pytest.raises(InvalidInput, match="damaged block 'one'"):
        with_block(damaged, "one", [])


def test_the_words_of_a_line_are_quoted() -> None:
    command = command_of(Path("/tmp/it's 100%"), "auto", None)
    line = cron_line("0 3 1 * *", command, Path("/tmp/x y.log"))
    assert "100\\%" in line
    assert shlex.split(line.replace("\\%", "%"))[5:-3] == command
    with pytest.raises(InvalidInput, match="line break"):
        command_of(Path("/tmp/a\nb"), "auto", None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "0 3 1 * *"),
        ({"day": "15,1", "hour": 4, "minute": 30}, "30 4 1,15 * *"),
        ({"weekly": "Sunday"}, "0 3 * * sun"),
        ({"cron": "*/5  * * * *"}, "*/5 * * * *"),
        ({"day": "0"}, None),
        ({"day": "1;2"}, None),
        ({"weekly": "someday"}, None),
        ({"hour": 24}, None),
        ({"day": "1", "weekly": "sun"}, None),
        ({"cron": "0 0 31 2 *"}, None),
        ({"cron": "* * * * *", "day": "1"}, None),
    ],
)
def test_times_of_the_options(options: dict[str, Any], expected: str | None) -> None:
    given: dict[str, Any] = {"day": None, "weekly": None, "hour": 3, "minute": 0, "cron": None} | options
    if expected is None:
        with pytest.raises(InvalidInput):
            read_times(**given)
    else:
        assert read_times(**given).cron() == expected


# The command ------------------------------------------------------------------------------------


@pytest.fixture
def crontab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, content in (("crontab", PROGRAM), ("systemctl", SYSTEMCTL)):
        (programs / name).write_text(content)
        (programs / name).chmod(0o755)
    file = tmp_path / "crontab.txt"
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CRONTAB_FILE", str(file))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TZ", "UTC")
    return file


@pytest.fixture
def schedule(tmp_path: Path, crontab: Path) -> Any:
    def call(*words: str, code: int = 0) -> Any:
        found = CliRunner().invoke(app, ["--home", str(tmp_path / "home"), "schedule", *words, "--json"])
        assert found.exit_code == code, found.output
        return json.loads(found.stdout)

    return call


def test_a_schedule_is_set_changed_and_removed(schedule: Any, crontab: Path, tmp_path: Path) -> None:
    crontab.write_bytes(FOREIGN)
    assert schedule("status", code=4)["schedules"] == []
    schedule("setup", "--day", "1,15", "--dry-run")
    assert crontab.read_bytes() == FOREIGN
    schedule("setup", "--day", "1,15")
    schedule("setup", "--mode", "full", "--weekly", "sun")
    schedule("setup", "--day", "2", "--hour", "5")
    content = crontab.read_bytes()
    assert content.startswith(FOREIGN)
    assert content.count(b"BEGIN karen_learner") == 2
    state = schedule("status")
    assert [one["when"] for one in state["schedules"]] == ["0 5 2 * *", "0 3 * * sun"]
    assert state["healthy"]
    assert state["next_run"] > datetime.now(timezone.utc).isoformat()
    assert schedule("remove", "--dry-run")["removed"] == ["auto", "full"]
    assert crontab.read_bytes() == content
    schedule("remove")
    assert crontab.read_bytes() == FOREIGN
    schedule("remove", code=4)


def test_a_missed_and_a_failed_run_are_unhealthy(schedule: Any, tmp_path: Path) -> None:
    schedule("setup", "--cron", "0 3 * * *")
    home = tmp_path / "home"
    old = datetime.now(timezone.utc) - timedelta(days=3, hours=3)
    log_files.write_status(home, {"scheduled_auto": old.isoformat()})
    assert schedule("status", code=7)["missed"] in (3, 4)
    log_files.write_status(
        home, {"last_run": datetime.now(timezone.utc).isoformat(), "last_status": "failed"}
    )
    state = schedule("status", code=7)
    assert (state["missed"], state["last_status"]) == (0, "failed")


def test_a_refused_crontab_changes_nothing(
    schedule: Any, crontab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crontab.write_bytes(FOREIGN)
    monkeypatch.setenv("CRONTAB_REFUSES", "1")
    assert "cron refuses the crontab: bad minute" in schedule("setup", code=1)["error"]
    assert crontab.read_bytes() == FOREIGN


def test_timers_of_systemd(schedule: Any, crontab: Path, tmp_path: Path) -> None:
    schedule("setup", "--systemd", "--weekly", "sun", "--hour", "4")
    files = sorted((tmp_path / "config" / "systemd" / "user").iterdir())
    assert [file.suffix for file in files] == [".service", ".timer"]
    assert "OnCalendar=Sun *-*-* 04:00:00" in files[1].read_text()
    assert schedule("status")["schedules"][0]["by"] == "systemd"
    assert schedule("remove")["removed"] == ["auto"]
    assert not list((tmp_path / "config" / "systemd" / "user").iterdir())
    assert "enable --now" in Path(f"{crontab}.systemctl").read_text()
    schedule("setup", "--systemd", "--cron", "0 3 * * *", code=1)


# Log files --------------------------------------------------------------------------------------


def test_log_files_are_rotated_by_size_and_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "MAX_BYTES", 100)
    now, path = datetime.now(timezone.utc), tmp_path / "logs" / "retrain.log"
    for number in range(200):
        log_files.append_line(path, f"line {number}", now)
    assert len(list(path.parent.iterdir())) == log_files.KEPT + 1
    assert "line 199" in path.read_text()
    log_files.append_line(path, "later", now + timedelta(days=400))
    assert len(list(path.parent.iterdir())) == 1
