"""Folders and files that only this user can read: a home contains texts of users."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

FOLDER_MODE, FILE_MODE = 0o700, 0o600
OTHERS = stat.S_IRWXG | stat.S_IRWXO
PRIVATE_UMASK = 0o077


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, for this user only. An existing folder keeps its mode.

    Raises OSError.
    """
    if not folder.is_dir():
        if folder.parent != folder:
            make_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def open_private(path: Path, mode: str = "w") -> IO[Any]:
    """Open a file for writing, with UTF-8 for text. A new file is for this user only.

    Raises OSError.
    """
    encoding = None if "b" in mode else "utf-8"
    return open(path, mode, encoding=encoding, newline=None if encoding is None else "\n", opener=_opener)


def make_private(folder: Path) -> None:
    """Remove the rights of other users from a folder and all below it. The owner's stay. Raises OSError."""
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):  # another process has removed it
            mode = stat.S_IMODE(path.lstat().st_mode)
            if mode & OTHERS and not path.is_symlink():
                path.chmod(mode & ~OTHERS)


def open_to_others(path: Path) -> bool:
    """Whether other accounts of this machine may read, write or list the path. False on Windows."""
    return os.name == "posix" and path.exists() and bool(path.stat().st_mode & OTHERS)


def _opener(name: str, flags: int) -> int:
    return os.open(name, flags, FILE_MODE)
