"""Health checks of a home: its disk and its permissions. They change nothing.

`models.backups.check_version` checks the files of a version.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from karen_learner.disk import FULL_BYTES, bytes_text, existing, open_to_others
from karen_learner.models.files import HomeLayout
from karen_learner.records import DiskUse, HealthProblem, HomeHealth

LOW_DISK_BYTES = 1 << 30
LOW_DISK_SHARE = 0.05
"""A disk is low with fewer free bytes than both bounds."""
KINDS = ("database", "models", "shadows", "backups", "corpora", "staging", "other")


def home_health(layout: HomeLayout, *, read_only: str | None = None) -> HomeHealth:
    """Disk use of a home, and its problems apart from those of tenants. Blocking.

    `read_only` is the reason for which the store was opened to read only, if it was not wanted.
    """
    disk = disk_use(layout)
    problems = [*_disk_problems(disk), *_permission_problems(layout)]
    if read_only is not None:
        problems.append(
            HealthProblem(
                severity="failing",
                message=f"nothing can be stored: {read_only}",
                remedy="turns are refused and cycles do not run until the home can be written",
            )
        )
    return HomeHealth(disk=disk, read_only=read_only, problems=tuple(problems))


def disk_use(layout: HomeLayout) -> DiskUse:
    """Bytes below a home and its folder of backups, by kind. Blocking."""
    by_kind = dict.fromkeys(KINDS, 0)
    for path in _files(layout):
        try:
            by_kind[_kind(layout, path)] += path.lstat().st_size
        except FileNotFoundError:  # a cycle has removed it
            continue
    usage = shutil.disk_usage(existing(layout.home))
    return DiskUse(home=layout.home, by_kind=by_kind, free=usage.free, size=usage.total)


def _disk_problems(disk: DiskUse) -> Iterator[HealthProblem]:
    remedy = "free some space, for example with `karen-learner prune`"
    free = f"{bytes_text(disk.free)} of {bytes_text(disk.size)} are free at {disk.home}"
    if disk.free < FULL_BYTES:
        yield HealthProblem(severity="failing", message=f"the disk is full: {free}", remedy=remedy)
    elif disk.free < min(LOW_DISK_BYTES, LOW_DISK_SHARE * disk.size):
        yield HealthProblem(severity="warning", message=f"the disk is almost full: {free}", remedy=remedy)


def _permission_problems(layout: HomeLayout) -> Iterator[HealthProblem]:
    """Folders that contain texts of users and that other accounts may enter."""
    inside = open_to_others(layout.home)
    for folder in dict.fromkeys((layout.home, layout.backup_root, layout.corpus_root, layout.model_root)):
        is_inside = folder != layout.home and folder.is_relative_to(layout.home)
        if open_to_others(folder) and (inside or not is_inside):
            mode = f"{folder.stat().st_mode & 0o777:03o}"
            yield HealthProblem(
                severity="warning",
                message=f"other accounts of this machine may enter {folder} (mode {mode})",
                remedy=f"chmod -R go= {shlex.quote(str(folder))}",
            )


def _files(layout: HomeLayout) -> Iterator[Path]:
    roots = [layout.home]
    for root in (layout.backup_root, layout.corpus_root, layout.model_root):
        if not root.is_relative_to(layout.home):
            roots.append(root)
    return (path for root in roots for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def _kind(layout: HomeLayout, path: Path) -> str:
    if path.name.startswith(layout.database.name):
        return "database"
    for root, kind in ((layout.backup_root, "backups"), (layout.corpus_root, "corpora")):
        if path.is_relative_to(root):
            return kind
    if not path.is_relative_to(layout.model_root):
        return "other"
    parts = path.relative_to(layout.model_root).parts
    return {".shadows": "shadows", ".staging": "staging", ".restoring": "staging"}.get(
        parts[1] if len(parts) > 1 else "", "models"
    )
