"""`schedule`: retraining at fixed times by cron or systemd."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import argument, flag, option, with_common_options
from karen_learner.errors import ExitCode, InvalidInput

Action = Literal["setup", "status", "remove"]
LATE = timedelta(hours=1)
"""A run that has not begun this long after its time is missed."""


@with_common_options
def schedule(
    run: Context,
    action: Annotated[Action, argument("ACTION", "setup, status or remove.")],
    day: Annotated[
        str | None, typer.Option(help="Days of the month, such as 1,15. Default: 1.", show_default=False)
    ] = None,
    hour: Annotated[int, typer.Option(help="Hour, 0 to 23.")] = 3,
    minute: Annotated[int, typer.Option(help="Minute, 0 to 59.")] = 0,
    weekly: Annotated[
        str | None, typer.Option(help="Day of the week, such as sun, in place of --day.", show_default=False)
    ] = None,
    cron: Annotated[str | None, option("EXPR", "A whole cron expression.")] = None,
    mode: Annotated[
        Literal["auto", "full"], typer.Option(help="Mode of the cycles. Each mode has a schedule of its own.")
    ] = "auto",
    systemd: Annotated[bool, flag("--systemd", "Use a timer of systemd, not cron.")] = False,
    dry_run: Annotated[bool, flag("--dry-run", "Show the result. Change nothing.")] = False,
) -> int:
    """Let cron or systemd run `karen-learner retrain` at fixed times, in the time zone of this machine.

    Other lines of the crontab stay as they are. `remove` removes the schedules of both modes.

    Exit codes of `status`: 0 healthy, 4 there is no schedule, 7 a run was missed or has failed.
    """
    if action == "setup":
        from karen_learner.autonomy.os_schedule import read_times

        times = read_times(day=day, weekly=weekly, hour=hour, minute=minute, cron=cron)
        return _setup(run, times, mode, systemd=systemd, dry_run=dry_run)
    return _status(run) if action == "status" else _remove(run, dry_run=dry_run)


def _setup(run: Context, times: Any, mode: Literal["auto", "full"], *, systemd: bool, dry_run: bool) -> int:
    from karen_learner.autonomy import log_files, os_schedule
    from karen_learner.disk import make_folder

    run.settings()
    command = os_schedule.command_of(run.home, mode, run.config_given)
    expression = times.cron()
    log = log_files.log_folder(run.home) / log_files.CRON_LOG
    document: dict[str, Any] = {"mode": mode, "expression": expression, "done": not dry_run}
    if systemd:
        units = os_schedule.SystemdSchedules(run.home)
        planned = units.units(mode, times.calendar(), command)
        shown = "\n".join(f"{path}\n{content}" for path, content in planned.items())
        document["files"] = {str(path): content for path, content in planned.items()}
        if not dry_run:
            units.set(mode, times.calendar(), command)
    else:
        line = os_schedule.cron_line(expression, command, log)
        shown = document["line"] = line
        table = os_schedule.CrontabSchedules(run.home)
        table.planned(mode, [line])  # raises InvalidInput for a damaged block
        if not dry_run:
            make_folder(log.parent)
            table.set(mode, [line])
    if not dry_run:
        now = datetime.now(timezone.utc).isoformat()
        log_files.write_status(run.home, {f"scheduled_{mode}": now})
    run.output.result(document, *shown.splitlines())
    return ExitCode.OK


def _remove(run: Context, *, dry_run: bool) -> int:
    from karen_learner.autonomy import os_schedule

    units, removed = os_schedule.SystemdSchedules(run.home), []
    in_crontab = _expressions(run)
    for mode in os_schedule.MODES:
        if mode in in_crontab or mode in units.calendars():
            removed.append(mode)
        if not dry_run:
            if mode in in_crontab:
                os_schedule.CrontabSchedules(run.home).set(mode, [])
            units.remove(mode)
    word = "would be removed" if dry_run else "removed"
    text = f"{word}: the schedules {', '.join(removed)}" if removed else "there is no schedule of this home"
    run.output.result({"removed": removed, "done": not dry_run}, text)
    return ExitCode.OK if removed else ExitCode.SKIPPED


def _expressions(run: Context) -> dict[Any, str]:
    """The expressions in the crontab; none on a machine without cron."""
    from karen_learner.autonomy import os_schedule

    try:
        return os_schedule.CrontabSchedules(run.home).expressions()
    except InvalidInput as error:
        if "no program" not in str(error):
            raise
        return {}


def _status(run: Context) -> int:
    from tzlocal import get_localzone_name

    from karen_learner.autonomy import log_files, os_schedule
    from karen_learner.autonomy.cron import next_time

    kept = log_files.read_status(run.home)
    now, zone = datetime.now(timezone.utc), get_localzone_name()
    last_run = kept.get("last_run")
    schedules = []
    for mode, expression in _expressions(run).items():
        since = max(filter(None, (last_run, kept.get(f"scheduled_{mode}"))), default=now.isoformat())
        missed = _missed(expression, datetime.fromisoformat(since), now, zone)
        due = next_time(expression, now, zone=zone)
        schedules.append(
            {"mode": mode, "by": "cron", "when": expression, "next_run": due.isoformat(), "missed": missed}
        )
    for mode, calendar in os_schedule.SystemdSchedules(run.home).calendars().items():
        schedules.append({"mode": mode, "by": "systemd", "when": calendar, "next_run": None, "missed": 0})
    missed = sum(int(one["missed"] or 0) for one in schedules)
    healthy = bool(schedules) and not missed and kept.get("last_status") != "failed"
    document = {
        "last_run": last_run,
        "last_status": kept.get("last_status"),
        "next_run": min((one["next_run"] for one in schedules if one["next_run"]), default=None),
        "missed": missed,
        "healthy": healthy,
        "schedules": schedules,
    }
    lines = [f"{one['mode']}: {one['when']} ({one['by']}), missed {one['missed']}" for one in schedules]
    last = f"last run: {last_run or 'never'} {kept.get('last_status') or ''}".rstrip()
    run.output.result(document, *(lines or ["there is no schedule of this home"]), last)
    return ExitCode.OK if healthy else ExitCode.UNHEALTHY if schedules else ExitCode.SKIPPED


def _missed(expression: str, since: datetime, now: datetime, zone: str) -> int:
    """The times of the expression after `since` that have passed by more than an hour; at most 100."""
    from karen_learner.autonomy.cron import next_time

    time, count = since, 0
    while count < 100 and (time := next_time(expression, time, zone=zone)) < now - LATE:
        count += 1
    return count
