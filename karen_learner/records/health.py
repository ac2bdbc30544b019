"""Health of a home and of its tenants: problems, checks of versions, disk use."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from karen_learner.records.base import Record

Severity = Literal["warning", "failing"]
"""`failing`: the champion does not answer, or nothing can be stored. `warning`: everything works."""

Server = Literal["model", "base", "analyzer", "fallback"]
"""The source of analyses: the live model, the base pipeline, the analyzer of the host, or the fallback."""


class HealthProblem(Record):
    """A finding of a health check, with the remedy."""

    severity: Severity
    message: str
    remedy: str


Files = Literal["intact", "damaged", "missing", "unreadable"]


class VersionCheck(Record):
    """Files and backup of a version, compared with its digest.

    `problem` describes files that are not intact. Files are `unreadable` if the operating system refuses to
    read them. `changed_at` is the time of their newest change. A backup
    is read only if the files are not intact; otherwise it counts as present.
    """

    version: str
    files: Files
    backup: Literal["present", "damaged", "missing"]
    problem: str | None = None
    changed_at: datetime | None = None


class DiskUse(Record):
    """Bytes by kind of file, and those of the file system of the home."""

    home: Path
    by_kind: Mapping[str, int]
    free: int
    size: int

    @property
    def total(self) -> int:
        """Bytes of all kinds."""
        return sum(self.by_kind.values())


class RemovedFile(Record):
    """A file or folder that retention removes. `size` is in bytes."""

    path: Path
    kind: str
    size: int
    reason: str


class PruneReport(Record):
    """The files that retention removed, or would remove if not `done`."""

    done: bool
    removed: tuple[RemovedFile, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in self.removed)


class HomeBackup(Record):
    """An archive of a home: its files, their bytes, and the tenants with their champions.

    `notes` are the settings that a restore has changed, because they named places of the former home.
    """

    archive: Path
    created_at: datetime
    release: str
    files: int
    size: int
    champions: Mapping[str, str | None]
    notes: tuple[str, ...] = ()
    done: bool = True


class HomeHealth(Record):
    """Disk use and problems of a home, apart from its tenants."""

    disk: DiskUse
    read_only: str | None = None
    problems: tuple[HealthProblem, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing fails."""
        return is_healthy(self.problems)


class TenantHealth(Record):
    """The source of a tenant's analyses since a time, the reason if it is not the champion, and problems.

    `model_created_at` is that of the live model, `last_error` the error of the last failed cycle or load.
    """

    served_by: Server
    version: str | None = None
    since: datetime | None = None
    reason: str | None = None
    model_created_at: datetime | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None
    problems: tuple[HealthProblem, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing fails."""
        return is_healthy(self.problems)


Area = Literal["home", "database", "versions", "libraries"]


class Finding(Record):
    """A result of the doctor: a check that passes, or a problem with its remedy.

    `fixed`: the doctor has mended it. `fixable`: it could.
    """

    area: Area
    severity: Literal["ok", "warning", "failing"]
    message: str
    remedy: str | None = None
    fixable: bool = False
    fixed: bool = False


def is_healthy(problems: tuple[HealthProblem, ...]) -> bool:
    """Whether no problem is failing."""
    return not any(problem.severity == "failing" for problem in problems)
