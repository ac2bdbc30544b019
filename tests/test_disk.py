"""Free space, and the file that keeps room for the journal."""

import errno
from pathlib import Path

import pytest

from karen_learner.disk import (
    RESERVE_BYTES,
    Reserve,
    bytes_text,
    existing,
    free_bytes,
    free_text,
    is_about_space,
    is_full,
)


def test_a_reserve_takes_room_until_it_is_released(tmp_path: Path) -> None:
    file = tmp_path / "reserve"
    reserve = Reserve(file)
    assert not reserve.release()
    reserve.keep()
    assert file.stat().st_blocks * 512 >= RESERVE_BYTES
    assert reserve.release()
    assert not file.exists()


def test_a_reserve_without_a_folder_is_none(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "missing" / "reserve")
    reserve.keep()
    assert not reserve.release()


def test_free_space_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    missing = tmp_path / "a" / "b"
    assert existing(missing) == tmp_path
    assert free_bytes(missing) > 0
    assert not is_full(missing)
    assert free_text(missing).endswith(f"are free at {tmp_path}")


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 bytes"), (9_999, "9999 bytes"), (10_000, "0.01 MB"), (1.5e9, "1,500.00 MB")]
)
def test_bytes_are_shown_in_megabytes(count: float, shown: str) -> None:
    assert bytes_text(count) == shown


def test_a_full_disk_is_found_in_the_causes_of_an_error() -> None:
    error = RuntimeError("outer")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_about_space(error)
    assert not is_about_space(OSError(errno.EACCES, "no"))
    assert not is_about_space(None)
