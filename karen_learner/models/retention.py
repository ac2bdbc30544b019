"""Retention: the files of a tenant that are older than the settings allow, or beyond their size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from karen_learner.models.backups import PARTIAL, SUFFIX
from karen_learner.models.files import HomeLayout, folder_bytes, remove_folder
from karen_learner.records import RemovedFile, utc_now
from karen_learner.settings import LearningSettings

SECONDS_PER_DAY = 86_400.0
RESTORE_TIME_S = 3_600.0
"""A restore takes seconds. An older folder of a restore is left by a crash, and is removed."""


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
    for path in layout.backups(tenant_id).glob(f"*{SUFFIX}"):
        if path.name.removesuffix(SUFFIX) not in kept.versions:
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
