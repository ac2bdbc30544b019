"""Stable exit codes."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from karen_learner.records import CycleStatus


class ExitCode(IntEnum):
    """Exit code of a command."""

    OK = 0
    ERROR = 1
    USAGE = 2
    REJECTED = 3
    SKIPPED = 4
    FAILED = 5
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "success or deployed",
    ExitCode.ERROR: "error, with a message on standard error",
    ExitCode.USAGE: "invalid command line or setting",
    ExitCode.REJECTED: "cycle rejected",
    ExitCode.SKIPPED: "nothing to do, or declined",
    ExitCode.FAILED: "cycle failed",
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
    """Exit code of a learning cycle."""
    return _BY_STATUS[status]


def exit_codes_help() -> str:
    """All exit codes in one help line."""
    return "Exit codes: " + "; ".join(f"{code:d} {meaning}" for code, meaning in MEANINGS.items()) + "."
