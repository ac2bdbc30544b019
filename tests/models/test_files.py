"""Digests that change with any byte, and atomic writes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.models.files import (
    file_digest,
    folder_digest,
    move_into_place,
    remove_folder,
    replace_file,
    sync_folder,
)

WriteFiles = Callable[[Path], Path]

names = st.text("abc.", min_size=1, max_size=4).filter(lambda name: name.strip("."))
contents = st.dictionaries(names, st.binary(max_size=20), min_size=1, max_size=4)


def digest_of(files: dict[str, bytes]) -> str:
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return folder_digest(Path(folder))


@given(contents, contents)
def test_a_digest_is_the_same_only_for_the_same_names_and_bytes(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    assert (digest_of(one) == digest_of(other)) is (one == other)


@given(contents, st.data())
def test_a_digest_changes_with_any_byte(files: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    content = files[name] or b"\0"
    at = data.draw(st.integers(0, len(content) - 1))
    changed = content[:at] + bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :]
    assert digest_of({**files, name: content}) != digest_of({**files, name: changed})


def test_a_digest_changes_with_a_file_name(tmp_path: Path, write_files: WriteFiles) -> None:
    before = folder_digest(write_files(tmp_path / "a"))
    (tmp_path / "a" / "ner" / "model").rename(tmp_path / "a" / "ner" / "model2")
    renamed = folder_digest(tmp_path / "a")
    (tmp_path / "a" / "ner" / "model2").rename(tmp_path / "a" / "model2")
    assert len({before, renamed, folder_digest(tmp_path / "a")}) == 3


def test_a_digest_does_not_depend_on_the_place_of_the_folder(tmp_path: Path, write_files: WriteFiles) -> None:
    assert folder_digest(write_files(tmp_path / "a")) == folder_digest(write_files(tmp_path / "b" / "c"))


def test_a_digest_excludes_named_files(tmp_path: Path, write_files: WriteFiles) -> None:
    folder = write_files(tmp_path / "a")
    before = folder_digest(folder)
    (folder / "manifest.json").write_text("{}")
    assert folder_digest(folder) != before
    assert folder_digest(folder, leave_out=frozenset({"manifest.json"})) == before
    (folder / "ner" / "manifest.json").write_text("{}")
    assert folder_digest(folder, leave_out=frozenset({"manifest.json"})) != before


@pytest.mark.skipif(os.name != "posix", reason="names that are no text")
def test_a_digest_accepts_names_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"")
    assert folder_digest(tmp_path) != folder_digest(tmp_path, leave_out=frozenset({os.fsdecode(b"\xff")}))


def test_a_file_digest_is_sha256(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "big").write_bytes(content)
    assert file_digest(tmp_path / "big") == hashlib.sha256(content).hexdigest()


def test_moving_makes_the_parents_and_refuses_to_replace(tmp_path: Path, write_files: WriteFiles) -> None:
    first, second = write_files(tmp_path / "first"), write_files(tmp_path / "second")
    sync_folder(first)
    move_into_place(first, tmp_path / "deep" / "down")
    assert not first.exists()
    with pytest.raises(OSError, match="not empty"):
        move_into_place(second, tmp_path / "deep" / "down")
    assert (second / "ner" / "model").exists()


def test_replacing_a_file_leaves_no_temporary_file(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        replace_file(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_removing_a_missing_folder_is_no_error(tmp_path: Path, write_files: WriteFiles) -> None:
    remove_folder(write_files(tmp_path / "a"))
    remove_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()
