"""The exit codes that a script can rely on."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from karen_learner.records import CycleStatus


class ExitCode(IntEnum):
    """What a command came to."""

    OK = 0
    ERROR = 1
    USAGE = 2
    REJECTED = 3
    SKIPPED = 4
    FAILED = 5
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done; for a cycle: deployed",
    ExitCode.ERROR: "an error, told in one sentence on standard error",
    ExitCode.USAGE: "the command line or a setting is wrong; nothing was done",
    ExitCode.REJECTED: "a cycle was rejected: the live model stays",
    ExitCode.SKIPPED: "there was nothing to do, or it was declined",
    ExitCode.FAILED: "a cycle failed: the live model stays",
    ExitCode.INTERRUPTED: "interrupted",
}

_BY_STATUS: dict[CycleStatus, ExitCode] = {
    "deployed": ExitCode.OK,
    "rolled_back": ExitCode.OK,
    "rejected": ExitCode.REJECTED,
    "skipped": ExitCode.SKIPPED,
    "failed": ExitCode.FAILED,
}


def exit_for(status: CycleStatus) -> ExitCode:
    """The code for the end of a learning cycle."""
    return _BY_STATUS[status]


def exit_codes_help() -> str:
    """One line of help."""
    return "Exit codes: " + "; ".join(f"{code:d} {meaning}" for code, meaning in MEANINGS.items()) + "."
