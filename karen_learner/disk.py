"""Files and folders for this user only, free space of disks, and space in reserve for the journal.

A home contains texts of users: new folders have the mode 0700, new files 0600.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from karen_learner.errors import InvalidInput

FOLDER_MODE, FILE_MODE = 0o700, 0o600
OTHERS = stat.S_IRWXG | stat.S_IRWXO
PRIVATE_UMASK = 0o077
FULL_BYTES = 1 << 20
"""Free bytes below which a disk counts as full: a transaction of turns needs up to a megabyte."""
RESERVE_BYTES = 2 << 20
"""Enough for the end of a cycle, a rollback of thousands of examples, and the log of the database."""
RESERVES_PER_DISK = 4
"""A reserve is kept while the disk has room for so many."""
MEGABYTE = 1_000_000


def home_path(home: Path | str) -> Path:
    """The path of a home; `~` at its start is the folder of a user. Raises InvalidInput for no valid path."""
    if not isinstance(home, (str, os.PathLike)):
        raise InvalidInput(f"home must be a path or a text, not {type(home).__name__}")
    try:
        if b"\0" in os.fsencode(home):
            raise InvalidInput(f"home contains a NUL: {str(home)!r}")
        return Path(home).expanduser()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"home {str(home)!a} has characters that this system's file names cannot have: set PYTHONUTF8=1"
        ) from error
    except RuntimeError as error:  # of `expanduser`
        raise InvalidInput(f"home {str(home)!r} names no known user: {error}") from error


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


def existing(path: Path) -> Path:
    """The path, or its nearest existing parent."""
    return next(one for one in (path, *path.parents) if one.exists())


def free_bytes(place: Path) -> int:
    """Bytes that this user can write to the file system of a path."""
    return shutil.disk_usage(existing(place)).free


def is_full(place: Path) -> bool:
    """Whether the file system of a path has no room for a transaction."""
    return free_bytes(place) < FULL_BYTES


def is_about_space(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is a full disk or a reached quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def free_text(place: Path) -> str:
    """The free space of the file system of a path, for messages."""
    there = existing(place)
    usage = shutil.disk_usage(there)
    return f"{bytes_text(usage.free)} of {bytes_text(usage.total)} are free at {there}"


def bytes_text(count: float) -> str:
    """Bytes in megabytes, or in bytes below a hundredth of one."""
    return f"{count / MEGABYTE:,.2f} MB" if count >= MEGABYTE / 100 else f"{count:.0f} bytes"


class Reserve:
    """A file that keeps room on the disk. It is removed when the journal finds the disk full."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def keep(self) -> None:
        """Make the file if it is missing and the disk has room. Blocking."""
        if self._file.exists() or free_bytes(self._file) < RESERVES_PER_DISK * RESERVE_BYTES:
            return
        try:
            with open_private(self._file, "wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
                else:
                    file.write(bytes(RESERVE_BYTES))
        except OSError:  # the disk is full by now, or read-only: there is nothing to reserve
            self._file.unlink(missing_ok=True)

    def release(self) -> bool:
        """Remove the file; whether there was one. Blocking."""
        try:
            self._file.unlink()
        except OSError:
            return False
        return True
