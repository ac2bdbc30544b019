"""Schedules of the operating system for `karen-learner retrain`: crontab lines, or units of systemd.

Lines are in marked blocks. All other bytes of the crontab stay as they are.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from karen_learner.autonomy.cron import read_expression
from karen_learner.disk import make_folder, open_private
from karen_learner.errors import InvalidInput
from karen_learner.records.base import Record

PROGRAM = "crontab"
TIMEOUT_S = 30.0
NO_CRONTAB = b"no crontab"
ADDED_NEWLINE = " (with the newline before it)"


def block_name(value: str) -> str:
    """The name of a block. Raises InvalidInput for other signs than letters, digits and hyphens."""
    if not re.fullmatch(r"[a-z0-9-]{1,80}", value):
        raise InvalidInput(f"the name of a block has letters, digits and hyphens only, not {value!r:.80}")
    return value


def with_block(crontab: bytes, name: str, lines: Iterable[str]) -> bytes:
    """The crontab with this block, in place of an earlier one with its name; without lines: without it.

    Raises InvalidInput if the crontab has a beginning of the block without an end, or several.
    """
    place = _find(crontab, name)
    before, after = (crontab, b"") if place is None else (crontab[: place.start()], crontab[place.end() :])
    content = list(lines)
    if not content:
        return before + after
    added = bool(before) and not before.endswith(b"\n")
    begin = f"# BEGIN karen_learner {name}{ADDED_NEWLINE if added else ''}"
    text = "\n".join([begin, *content, f"# END karen_learner {name}"])
    return before + (b"\n" if added else b"") + text.encode() + b"\n" + after


def block_lines(crontab: bytes, name: str) -> list[str]:
    """The lines of a block, without its marks; none if there is no such block. Raises InvalidInput."""
    place = _find(crontab, name)
    return [] if place is None else place["lines"].decode(errors="replace").splitlines()


def _find(crontab: bytes, name: str) -> re.Match[bytes] | None:
    mark, newline = re.escape(block_name(name).encode()), re.escape(ADDED_NEWLINE.encode())
    begins = re.findall(
        rb"^# BEGIN karen_learner " + mark + rb"(?:" + newline + rb")?$", crontab, re.MULTILINE
    )
    pattern = (
        rb"(?:(?<=[^\n])\n(?=# BEGIN karen_learner " + mark + newline + rb"\n)|^)"
        rb"# BEGIN karen_learner " + mark + rb"(?:" + newline + rb")?\n"
        rb"(?P<lines>(?:(?!# (?:BEGIN|END) karen_learner ).*\n)*)"
        rb"# END karen_learner " + mark + rb"(?:\n|\Z)"
    )
    found = re.search(pattern, crontab, re.MULTILINE)
    if len(begins) > 1 or (begins and found is None):
        raise InvalidInput(
            f"the crontab has a damaged block {name!r}: remove its lines with `crontab -e`, and try again"
        )
    return found


def read_crontab() -> bytes:
    """The crontab of this user; empty without one. Raises InvalidInput if it cannot be read."""
    done = _crontab(["-l"])
    if done.returncode == 0:
        return done.stdout
    if NO_CRONTAB in done.stderr.lower():
        return b""
    raise InvalidInput(f"the crontab cannot be read: {_message(done)}")


def write_crontab(content: bytes) -> None:
    """Replace the crontab of this user. Raises InvalidInput if cron refuses it: it is unchanged then."""
    done = _crontab(["-"], content)
    if done.returncode:
        raise InvalidInput(f"cron refuses the crontab: {_message(done)}")


def _crontab(arguments: list[str], content: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - fixed program without a shell
            [PROGRAM, *arguments], input=content, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise InvalidInput("there is no program `crontab`: install cron, or use --systemd") from error
    except subprocess.TimeoutExpired as error:
        raise InvalidInput(f"`crontab` does not answer within {TIMEOUT_S:g} s") from error


def _message(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode(errors="replace").strip()[:200] or f"exit code {done.returncode}"


ScheduledMode = Literal["auto", "full"]
MODES: tuple[ScheduledMode, ...] = ("auto", "full")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
SYSTEMCTL_TIMEOUT_S = 30.0


class Times(Record):
    """The times of a schedule: days of the month or a day of the week, hour and minute; or an expression."""

    days: tuple[int, ...] = ()
    weekday: str | None = None
    hour: int = 3
    minute: int = 0
    expression: str | None = None

    def cron(self) -> str:
        """The cron expression. Raises InvalidInput."""
        if self.expression is not None:
            return read_expression(self.expression)
        day = ",".join(map(str, self.days)) or "*"
        return read_expression(f"{self.minute} {self.hour} {day} * {self.weekday or '*'}")

    def calendar(self) -> str:
        """The calendar event of systemd. Raises InvalidInput for an expression."""
        if self.expression is not None:
            raise InvalidInput("systemd has no cron expressions: use --day, --weekly, --hour and --minute")
        day = ",".join(f"{day:02d}" for day in self.days) or "*"
        weekday = f"{self.weekday.capitalize()} " if self.weekday else ""
        return f"{weekday}*-*-{day} {self.hour:02d}:{self.minute:02d}:00"


def read_times(*, day: str | None, weekly: str | None, hour: int, minute: int, cron: str | None) -> Times:
    """The times of the options of the command. Raises InvalidInput for impossible or contradicting ones."""
    if cron is not None and (day is not None or weekly is not None):
        raise InvalidInput("--cron is a whole expression: use it without --day and --weekly")
    if day is not None and weekly is not None:
        raise InvalidInput("--day is a day of the month, --weekly one of the week: use one of them")
    if weekly is not None and weekly.lower()[:3] not in WEEKDAYS:
        raise InvalidInput(f"unknown day of the week {weekly!r:.40}: use one of {', '.join(WEEKDAYS)}")
    if not (0 <= hour <= 23 and 0 <= minute <= 59):
        raise InvalidInput(f"no time of a day: {hour}:{minute}")
    if cron is not None:
        return Times(expression=read_expression(cron))
    if weekly is not None:
        return Times(weekday=weekly.lower()[:3], hour=hour, minute=minute)
    return Times(days=_days("1" if day is None else day), hour=hour, minute=minute)


def _days(text: str) -> tuple[int, ...]:
    try:
        days = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise InvalidInput(
            f"--day has numbers with commas between them, such as 1,15, not {text!r:.40}"
        ) from error
    if not days or not all(1 <= day <= 31 for day in days):
        raise InvalidInput(f"a day of the month is 1 to 31, not {text!r:.40}")
    return days


def name_of(home: Path, mode: ScheduledMode) -> str:
    """The name of the block or unit of a home and a mode."""
    digest = hashlib.blake2b(os.fsencode(home.absolute()), digest_size=6).hexdigest()
    return f"{digest}-{mode}"


def command_of(home: Path, mode: ScheduledMode, config: Path | None) -> list[str]:
    """The command that the schedule runs. Raises InvalidInput for a home whose name has a line break."""
    words = [sys.executable, "-m", "karen_learner.cli", "--home", str(home.absolute())]
    words += ["--config", str(config.absolute())] if config is not None else []
    words += ["retrain", "--mode", mode]
    if any(sign in word for word in words for sign in "\n\r\0"):
        raise InvalidInput("a schedule cannot hold a path with a line break: move the home")
    return words


def cron_line(expression: str, command: Sequence[str], log: Path) -> str:
    """A line of a crontab. `%` is escaped, which cron would read as a line break."""
    shell = f"{shlex.join(command)} >> {shlex.quote(str(log))} 2>&1"
    return f"{expression} {shell}".replace("%", "\\%")


class CrontabSchedules:
    """The schedules of a home in the crontab of this user."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def planned(self, mode: ScheduledMode, lines: Sequence[str]) -> bytes:
        """The crontab with these lines for a mode, in place of earlier ones."""
        return with_block(read_crontab(), name_of(self._home, mode), lines)

    def set(self, mode: ScheduledMode, lines: Sequence[str]) -> None:
        """Write the lines of a mode; none remove them. Raises InvalidInput."""
        present = read_crontab()
        changed = with_block(present, name_of(self._home, mode), lines)
        if changed != present:
            write_crontab(changed)

    def expressions(self) -> dict[ScheduledMode, str]:
        """The expressions in the crontab, by mode. Raises InvalidInput."""
        present, found = read_crontab(), dict[ScheduledMode, str]()
        for mode in MODES:
            lines = block_lines(present, name_of(self._home, mode))
            if lines:
                found[mode] = " ".join(lines[-1].split()[:5])
        return found


class SystemdSchedules:
    """The schedules of a home as timers of the user's systemd."""

    def __init__(self, home: Path, folder: Path | None = None) -> None:
        config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        self._folder = folder or Path(config) / "systemd" / "user"
        self._home = home

    def units(self, mode: ScheduledMode, calendar: str, command: Sequence[str]) -> dict[Path, str]:
        """The unit files of a mode with their contents."""
        line = " ".join(_systemd_word(word) for word in command)
        service = (
            f"[Unit]\nDescription=karen_learner retrain --mode {mode}\n\n"
            f"[Service]\nType=oneshot\nExecStart={line}\nSuccessExitStatus=3 4 6\n"
        )
        timer = (
            f"[Unit]\nDescription=karen_learner retrain --mode {mode}\n\n"
            f"[Timer]\nOnCalendar={calendar}\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n"
        )
        return {self._path(mode, "service"): service, self._path(mode, "timer"): timer}

    def set(self, mode: ScheduledMode, calendar: str, command: Sequence[str]) -> None:
        """Write and start the timer of a mode. Raises InvalidInput."""
        make_folder(self._folder)
        for path, content in self.units(mode, calendar, command).items():
            with open_private(path) as file:
                file.write(content)
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", self._path(mode, "timer").name)

    def remove(self, mode: ScheduledMode) -> bool:
        """Stop and remove the timer of a mode; whether there was one. Raises InvalidInput."""
        timer = self._path(mode, "timer")
        if not timer.exists():
            return False
        _systemctl("disable", "--now", timer.name)
        for kind in ("timer", "service"):
            self._path(mode, kind).unlink(missing_ok=True)
        _systemctl("daemon-reload")
        return True

    def calendars(self) -> dict[ScheduledMode, str]:
        """The calendar events of the timers, by mode."""
        found: dict[ScheduledMode, str] = {}
        for mode in MODES:
            timer = self._path(mode, "timer")
            if timer.exists():
                lines = timer.read_text(encoding="utf-8").splitlines()
                found[mode] = next(line.partition("=")[2] for line in lines if line.startswith("OnCalendar="))
        return found

    def _path(self, mode: ScheduledMode, kind: str) -> Path:
        return self._folder / f"karen-learner-{name_of(self._home, mode)}.{kind}"


def _systemd_word(word: str) -> str:
    """A word of a command line in a unit file. `%` and `$` begin variables there."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _systemctl(*words: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed program without a shell
            ["systemctl", "--user", *words],  # noqa: S607
            capture_output=True, timeout=SYSTEMCTL_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise InvalidInput(f"systemd of this user does not answer: {type(error).__name__}") from error
    if done.returncode:
        raise InvalidInput(
            f"systemctl {words[0]} failed: {done.stderr.decode(errors='replace').strip()[:200]}"
        )
