"""Paths of a home, durable writes of its folders, and the removal of old files.

The settings of `learning` limit the age and the size of versions, backups and corpora.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path

from karen_learner.disk import existing, home_path, make_folder, open_private
from karen_learner.records import LearningCycleResult, ModelVersion, RemovedFile, utc_now
from karen_learner.settings import LearningSettings, PathSettings

READABLE_CHARS = 40
SECONDS_PER_DAY = 86_400.0
RESTORE_TIME_S = 3_600.0
"""A restore takes seconds. An older folder of a restore is left by a crash, and is removed."""
BACKUP_SUFFIX = ".tar.gz"
PARTIAL = ".partial"
SYNC_THREADS = 8


def tenant_folder(tenant_id: str) -> str:
    """A safe, unique folder name for any tenant id: its readable characters and a hash."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", tenant_id).strip("-")[:READABLE_CHARS]
    digest = hashlib.blake2b(tenant_id.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    return f"{readable}-{digest}" if readable else digest


class HomeLayout:
    """The folders of one home. `model_backups` replaces the configured folder of backups.

    `~` at the start of `home` is the user's own folder. Raises InvalidInput for no valid path.
    """

    def __init__(
        self, home: Path | str, paths: PathSettings, *, model_backups: Path | str | None = None
    ) -> None:
        self.home = home_path(home).absolute()
        self._models = self.home / paths.models
        self._backups = Path(model_backups or self.home / paths.model_backups).absolute()
        self._corpus = self.home / paths.corpus

    @property
    def model_root(self) -> Path:
        """The folder of the versions of all tenants."""
        return self._models

    @property
    def backup_root(self) -> Path:
        """The folder of the backups of all tenants."""
        return self._backups

    @property
    def corpus_root(self) -> Path:
        """The folder of the corpora of all tenants."""
        return self._corpus

    @property
    def report_root(self) -> Path:
        """The folder of the reports of all tenants."""
        return self.home / "reports"

    @property
    def spool(self) -> Path:
        """The folder of the turns that wait for their analysis."""
        return self.home / "spool"

    @property
    def database(self) -> Path:
        return self.home / "karen.db"

    def models(self, tenant_id: str) -> Path:
        """The folder of a tenant's versions."""
        return self._models / tenant_folder(tenant_id)

    def version(self, tenant_id: str, version: str) -> Path:
        return self.models(tenant_id) / version

    def staging(self, tenant_id: str, cycle_id: str) -> Path:
        """The folder of a candidate before its deployment. Clean-up removes it at the end of a cycle."""
        return self.models(tenant_id) / ".staging" / cycle_id

    def shadows(self, tenant_id: str, version: str) -> Path:
        """The folder with the shadows of a version and their predictions."""
        return self.models(tenant_id) / ".shadows" / version

    def shadow_staging(self, tenant_id: str, cycle_id: str) -> Path:
        """The folder of a candidate's shadows before its deployment."""
        return self.models(tenant_id) / ".staging" / f"{cycle_id}-shadows"

    def placed(self, version: ModelVersion) -> ModelVersion:
        """The version with its paths in this home. Stored paths are outdated if the home was moved."""
        moved = {"path": self.version(version.tenant_id, version.version)}
        if version.backup_path is not None:
            moved["backup_path"] = self.backups(version.tenant_id) / version.backup_path.name
        return version.model_copy(update=moved)

    def placed_result(self, result: LearningCycleResult) -> LearningCycleResult:
        """The result of a cycle with the path of the backup in this home; without it if it is missing."""
        if result.backup_path is None:
            return result
        backup = self.backups(result.tenant_id) / result.backup_path.name
        return result.model_copy(update={"backup_path": backup if backup.is_file() else None})

    def base(self, name: str) -> Path:
        """The copy of a pipeline that new tenants start from."""
        return self._models / ".base" / tenant_folder(name)

    def backups(self, tenant_id: str) -> Path:
        return self._backups / tenant_folder(tenant_id)

    def corpora(self, tenant_id: str) -> Path:
        """The folder of a tenant's corpora, with one folder for each cycle."""
        return self._corpus / tenant_folder(tenant_id)

    def corpus(self, tenant_id: str, cycle_id: str) -> Path:
        return self.corpora(tenant_id) / cycle_id


# Durable files -------------------------------------------------------------------------------


def folder_digest(folder: Path, *, leave_out: frozenset[str] = frozenset()) -> str:
    """SHA-256 of the relative paths and contents of all files below `folder`, sorted."""
    total = hashlib.sha256()
    for path in sorted(_files(folder)):
        name = path.relative_to(folder).as_posix()
        if name not in leave_out:
            total.update(f"{name}\0{file_digest(path)}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Sync `folder` and everything below it to disk. Threads sync at the same time: a sync mostly waits."""
    folders = (Path(parent) for parent, _, _ in os.walk(folder))
    with ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="karen-sync") as threads:
        for _ in threads.map(sync_path, [*_files(folder), *folders]):
            pass  # raises the error of a sync


def move_into_place(source: Path, target: Path) -> None:
    """Rename a synced folder durably. `target` must not exist."""
    make_folder(target.parent)
    source.rename(target)
    sync_path(target.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically: after a crash it has the old or the new content."""
    partial = path.with_name(path.name + ".partial")
    with open_private(partial, "wb") as file:
        file.write(content)
    sync_path(partial)
    partial.replace(path)
    sync_path(path.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder if it exists."""
    shutil.rmtree(folder, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """Total size of all files below `folder`."""
    return sum(path.stat().st_size for path in _files(folder))


def changed_at(folder: Path) -> datetime:
    """The newest change of a folder and of everything below it; without it, of its nearest parent."""
    there = existing(folder)
    paths = (there, *there.rglob("*")) if there == folder else (there,)
    newest = max(path.lstat().st_mtime for path in paths)
    return datetime.fromtimestamp(newest, timezone.utc)


def _files(folder: Path) -> Iterator[Path]:
    return (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)


def sync_path(path: Path) -> None:
    """Sync one file, or the entries of one folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The versions that always stay, all versions with a row, and the cycle whose corpus stays."""

    versions: frozenset[str]
    known: frozenset[str]
    corpus: str | None = None


def to_remove(
    layout: HomeLayout, tenant_id: str, learning: LearningSettings, kept: Kept
) -> list[RemovedFile]:
    """The files and folders that retention removes, by age and then by size. Blocking; changes nothing.

    Call under the lease of the tenant: staging folders then belong to cycles that ended.
    """
    old = list(_old(layout, tenant_id, learning, kept))
    gone = {one.path for one in old}
    left = [one for one in _removable(layout, tenant_id, kept) if one.path not in gone]
    excess = _total(layout, tenant_id) - sum(one.size for one in old) - learning.retention_bytes
    reason = f"all files of the tenant have more than learning.retention_bytes ({learning.retention_bytes:,})"
    for one in sorted(left, key=lambda each: each.path.stat().st_mtime):
        if not learning.retention_bytes or excess <= 0:
            break
        old.append(one.model_copy(update={"reason": reason}))
        excess -= one.size
    return old


def remove(files: Sequence[RemovedFile]) -> None:
    """Remove files and folders. Those that are gone already are skipped. Blocking."""
    for one in files:
        if one.path.is_dir():
            remove_folder(one.path)
        else:
            one.path.unlink(missing_ok=True)


def _old(layout: HomeLayout, tenant_id: str, learning: LearningSettings, kept: Kept) -> Iterator[RemovedFile]:
    models = layout.models(tenant_id)
    for path in (models / ".staging").glob("*"):
        yield _file(path, "staging", "its cycle has ended")
    for path in (models / ".restoring").glob("*"):
        if _age_s(path) > RESTORE_TIME_S:
            yield _file(path, "staging", "its restore was interrupted")
    for path in layout.backups(tenant_id).glob(f"*{PARTIAL}"):
        yield _file(path, "backups", "its writing was interrupted")
    days = {"corpora": learning.corpus_retention_days}
    for one in _removable(layout, tenant_id, kept):
        limit = days.get(one.kind, learning.backup_retention_days)
        if one.kind == "models" and one.path.name not in kept.known:
            yield one.model_copy(update={"reason": "it was never deployed"})
        elif _age_s(one.path) > limit * SECONDS_PER_DAY:
            yield one.model_copy(update={"reason": f"it is older than {limit:g} days"})


def _removable(layout: HomeLayout, tenant_id: str, kept: Kept) -> Iterator[RemovedFile]:
    """Corpora, folders and backups, apart from the kept ones."""
    for path in layout.corpora(tenant_id).glob("*"):
        if path.is_dir() and path.name != kept.corpus:
            yield _file(path, "corpora")
    for path in layout.models(tenant_id).glob("v*"):
        if path.is_dir() and path.name not in kept.versions:
            yield _file(path, "models")
    for path in layout.backups(tenant_id).glob(f"*{BACKUP_SUFFIX}"):
        if path.name.removesuffix(BACKUP_SUFFIX) not in kept.versions:
            yield _file(path, "backups")


def _total(layout: HomeLayout, tenant_id: str) -> int:
    folders = (layout.models(tenant_id), layout.backups(tenant_id), layout.corpora(tenant_id))
    files = chain.from_iterable(folder.rglob("*") for folder in folders)
    return sum(path.lstat().st_size for path in files if path.is_file())


def _file(path: Path, kind: str, reason: str = "") -> RemovedFile:
    size = folder_bytes(path) if path.is_dir() else path.stat().st_size
    return RemovedFile(path=path, kind=kind, size=size, reason=reason)


def _age_s(path: Path) -> float:
    return utc_now().timestamp() - path.stat().st_mtime
