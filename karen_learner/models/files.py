"""Writing folders so that they survive: digests, syncing, moving into place."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

CHUNK = 1 << 20


def folder_digest(folder: Path, *, leave_out: frozenset[str] = frozenset()) -> str:
    """SHA-256 over the relative paths and contents of all files below `folder`, in order."""
    total = hashlib.sha256()
    for path in sorted(_files(folder)):
        name = path.relative_to(folder).as_posix()
        if name not in leave_out:
            total.update(f"{name}\0{file_digest(path)}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Bring every file and folder below, and `folder` itself, to the disk."""
    for path in _files(folder):
        sync_path(path)
    for path in [*(p for p in folder.rglob("*") if p.is_dir()), folder]:
        sync_path(path)


def move_into_place(source: Path, target: Path) -> None:
    """Rename a synced folder, and make the rename itself durable. `target` must not exist."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    sync_path(target.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never half."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    sync_path(partial)
    partial.replace(path)
    sync_path(path.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder if it is there."""
    shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def sync_path(path: Path) -> None:
    """Bring one file to the disk, or the entries of one folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
