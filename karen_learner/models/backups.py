"""Backups: compressed copies of versions, made at each deployment, restored if a version is damaged."""

from __future__ import annotations

import errno
import gzip
import logging
import tarfile
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, cast

from karen_learner.disk import FULL_BYTES, free_bytes, free_text, make_folder, make_private, open_private
from karen_learner.errors import DigestMismatch, KarenLearnerError, ModelError, UnknownVersion
from karen_learner.models.files import (
    BACKUP_SUFFIX,
    PARTIAL,
    changed_at,
    move_into_place,
    remove_folder,
    sync_folder,
    sync_path,
)
from karen_learner.models.versions import MANIFEST, Manifest, verify
from karen_learner.records import ModelVersion, VersionCheck
from karen_learner.records.health import Files

logger = logging.getLogger(__name__)


UNREADABLE = (tarfile.TarError, OSError, EOFError, KeyError, ValueError, zlib.error)
"""Errors of `tarfile` and of the manifest's reader for a damaged archive."""
CHUNK_BYTES = 1 << 20
MAX_MANIFEST_BYTES = 16 << 20
BLOCK_BYTES = 4096
"""Of each file, its last block and its name take at most as much on a disk."""
COMPRESSION = 3
"""Weights compress badly: higher levels cost seconds and save no space."""


def backup_file(version_folder: Path, backups: Path) -> Path:
    """The path of a version's backup."""
    return backups / f"{version_folder.name}{BACKUP_SUFFIX}"


def make_backup(version_folder: Path, target: Path) -> Path:
    """Write the archive `target` (see `backup_file`) atomically."""
    return place_backup(write_backup(version_folder, target), target)


def write_backup(version_folder: Path, target: Path) -> Path:
    """Write the archive under a partial name beside `target`. The next clean-up removes it if it stays."""
    make_folder(target.parent)
    # a unique name: the thread of a cancelled backup may still write
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        with (
            open_private(partial, "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz", compresslevel=COMPRESSION) as archive,
        ):
            archive.add(version_folder, arcname=version_folder.name)
        sync_path(partial)
    except OSError:
        partial.unlink(missing_ok=True)  # on a full disk the journal needs its space
        raise
    return partial


def place_backup(partial: Path, target: Path) -> Path:
    """Give an archive of `write_backup` its name, durably."""
    partial.replace(target)
    for folder in (target.parent, target.parent.parent):  # both may be new
        sync_path(folder)
    return target


def read_backup_manifest(backup: Path) -> Manifest:
    """The manifest in an archive. Raises UnknownVersion or ModelError."""
    if not backup.is_file():
        raise UnknownVersion(f"there is no backup at {backup}")
    try:
        with tarfile.open(backup, "r:gz") as archive:
            member = archive.extractfile(f"{_top(archive)}/{MANIFEST}")
            content = member.read(MAX_MANIFEST_BYTES) if member is not None else b""
        return Manifest.model_validate_json(content)
    except UNREADABLE as error:
        raise ModelError(f"{backup} is not a backup of a model: {error}") from error


def restore_backup(backup: Path, target: Path) -> Manifest:
    """Replace `target` by the content of an archive.

    The archive is first unpacked elsewhere and checked against its manifest, so that a damaged one changes
    nothing. Raises UnknownVersion, ModelError or DigestMismatch.
    """
    manifest = read_backup_manifest(backup)
    unpacking = target.parent / ".restoring" / uuid.uuid4().hex
    try:
        make_folder(unpacking)
        unpacked = _unpack(backup, unpacking)
        make_private(unpacked)
        verify(unpacked, digest=manifest.digest)
        sync_folder(unpacked)
        _clear(target)
        move_into_place(unpacked, target)
    except DigestMismatch as error:
        raise DigestMismatch(f"{backup} does not hold the files that its manifest names") from error
    except UNREADABLE as error:
        raise ModelError(f"{backup} cannot be restored to {target}: {error}") from error
    finally:
        remove_folder(unpacking)
    return manifest


def intact_manifest(version: ModelVersion) -> Manifest:
    """The manifest of a version with an intact digest; a damaged version is restored first. Blocking.

    Raises ModelError if the version is damaged and its backup is missing or damaged.
    """
    try:
        return verify(version.path, digest=version.digest)
    except ModelError as damage:
        backup = version.backup_path
        if backup is None or not backup.is_file():
            raise ModelError(
                f"{version.version} is damaged and has no backup ({damage}): `karen-learner repair` mends "
                "a live model, `karen-learner versions` lists others"
            ) from damage
        restore_backup(backup, version.path)
    manifest = verify(version.path, digest=version.digest)
    logger.warning("%s was damaged: it is restored from its backup", version.version)
    return manifest


def check_version(version: ModelVersion) -> VersionCheck:
    """Compare the files of a version with its digest. Blocking: it reads all of them. Changes nothing."""
    problem, files = None, "intact"
    try:
        verify(version.path, digest=version.digest)
    except ModelError as error:
        problem = str(error)
        files = "unreadable" if _is_denied(error) else "damaged" if version.path.is_dir() else "missing"
    return VersionCheck(
        version=version.version,
        files=cast(Files, files),
        backup=_backup_state(version, read=problem is not None),
        problem=problem,
        changed_at=None if problem is None else changed_at(version.path),
    )


def _backup_state(version: ModelVersion, *, read: bool) -> Literal["present", "damaged", "missing"]:
    """Whether there is a backup; with `read`, whether it holds the version and ends with its checksum."""
    backup = version.backup_path
    if backup is None or not backup.is_file():
        return "missing"
    try:
        if read and read_backup_manifest(backup).digest != version.digest:
            return "damaged"
        if read:
            _check(backup)
    except (*UNREADABLE, KarenLearnerError):
        return "damaged"
    return "present"


def is_lost(version: ModelVersion) -> bool:
    """Whether neither the files nor the backup of a version are intact. A damaged one is restored. Blocking.

    Files that this user may not read are not lost.
    """
    try:
        intact_manifest(version)
    except KarenLearnerError as error:
        return not _is_denied(error)
    return False


def _is_denied(error: BaseException | None) -> bool:
    """Whether the operating system refused. The error of a damaged gzip file has no number."""
    while error is not None:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _unpack(backup: Path, folder: Path) -> Path:
    """Unpack plain files and folders, and write only below `folder`."""
    with tarfile.open(backup, "r:gz") as archive:
        for member in fitting_members(archive, folder):
            if not (member.isfile() or member.isdir()):
                raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")
        _check(backup)
        archive.extractall(folder, filter="data")
        return folder / _top(archive)


def fitting_members(archive: tarfile.TarFile, folder: Path) -> Iterator[tarfile.TarInfo]:
    """The members of an archive. Raises TarError before one for which the disk of the folder has no room.

    A small archive can hold terabytes of zeros.
    """
    room = free_bytes(folder) - FULL_BYTES
    for member in archive:
        room -= max(member.size, 0) + BLOCK_BYTES
        if room < 0:
            raise tarfile.TarError(f"its content does not fit on the disk: {free_text(folder)}")
        yield member


def _check(backup: Path) -> None:
    """Compare the archive with the checksum at its end.

    `tarfile` does not read that far, and the digest of a version does not cover its manifest.
    """
    with gzip.open(backup) as archive:
        while archive.read(CHUNK_BYTES):
            pass


def _top(archive: tarfile.TarFile) -> str:
    """The top folder of the archive. Its name may differ from that of the archive."""
    for name in map(PurePosixPath, archive.getnames()):
        if name.name == MANIFEST and len(name.parts) == 2:
            return name.parts[0]
    raise tarfile.TarError(f"it holds no {MANIFEST}")


def _clear(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        remove_folder(target)
    else:
        target.unlink(missing_ok=True)
