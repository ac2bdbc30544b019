"""Backups: round trip, damage, hostile archives."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karen_learner.errors import DigestMismatch, ModelError, UnknownVersion
from karen_learner.models.backups import (
    backup_file,
    make_backup,
    read_backup_manifest,
    restore_backup,
)
from karen_learner.models.files import folder_digest, remove_folder
from karen_learner.models.versions import Manifest, verify

SealVersion = Callable[..., tuple[Path, Manifest]]


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def everything(folder: Path) -> str:
    return folder_digest(folder)


def packed(folder: Path, target: Path, add: Callable[[tarfile.TarFile], None]) -> Path:
    """An archive of a version with something added to it."""
    with tarfile.open(target, "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
        add(archive)
    return target


def a_file(name: str, content: bytes = b"evil") -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))

    return add


def special(name: str, kind: bytes, link: str = "") -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        archive.addfile(member)

    return add


# Round trip -------------------------------------------------------------------------------------


def test_a_restored_version_equals_the_saved_one(sealed: SealVersion, backups: Path) -> None:
    folder, manifest = sealed()
    backup = make_backup(folder, backup_file(folder, backups))
    assert backup.name == f"{manifest.version}.tar.gz"
    assert read_backup_manifest(backup) == manifest
    before = everything(folder)
    remove_folder(folder)
    assert restore_backup(backup, folder) == manifest
    assert everything(folder) == before
    assert verify(folder, digest=manifest.digest)
    assert list((folder.parent / ".restoring").iterdir()) == []


def test_restoring_replaces_any_content(sealed: SealVersion, backups: Path) -> None:
    folder, manifest = sealed()
    backup = make_backup(folder, backup_file(folder, backups))
    for damage in (lambda: (folder / "stray").write_text("x"), lambda: (folder / "ner" / "model").unlink()):
        damage()
        restore_backup(backup, folder)
        assert verify(folder, digest=manifest.digest)
    remove_folder(folder)
    folder.write_text("a file where the folder was")
    restore_backup(backup, folder)
    assert verify(folder, digest=manifest.digest)


def test_an_archive_may_be_renamed(sealed: SealVersion, backups: Path) -> None:
    folder, manifest = sealed()
    kept = make_backup(folder, backup_file(folder, backups)).rename(backups / "before christmas.tgz")
    remove_folder(folder)
    assert restore_backup(kept, folder) == manifest


def test_a_repeated_backup_is_identical(sealed: SealVersion, backups: Path) -> None:
    folder, _ = sealed()
    target = backup_file(folder, backups)
    assert make_backup(folder, target) == make_backup(folder, target) == target
    assert [path.name for path in backups.iterdir()] == [f"{folder.name}.tar.gz"]


# Damage -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names descriptors by /proc")
def test_a_backup_and_its_name_are_on_the_disk_when_it_is_made(
    sealed: SealVersion, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = sealed()
    target, fsync = backups / f"{folder.name}.tar.gz", os.fsync
    synced: list[tuple[str, bool]] = []

    def noted(descriptor: int) -> None:
        synced.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), target.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    make_backup(folder, backup_file(folder, backups))
    (partial, _), *folders = synced
    assert partial.startswith(f"{target}.")
    assert partial.endswith(".partial")
    assert folders == [(str(backups), True), (str(backups.parent), True)]


def test_a_missing_backup_is_reported(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tar.gz", tmp_path):
        with pytest.raises(UnknownVersion, match="no backup at"):
            restore_backup(path, tmp_path / "target")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b\x08" + b"\0" * 100])
def test_a_file_that_is_no_archive_is_reported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.tar\.gz is not a backup"):
        read_backup_manifest(path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_archive_changes_nothing(sealed_once: tuple[Path, bytes, str], at: int, flip: int) -> None:
    """A flipped byte raises an error and changes nothing, or has no effect on the content."""
    folder, content, before = sealed_once
    damaged = folder.parent / "damaged.tar.gz"
    at %= len(content)
    damaged.write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
    with contextlib.suppress(ModelError):
        restore_backup(damaged, folder)
    assert everything(folder) == before
    assert list((folder.parent / ".restoring").glob("*")) == []


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 0.999))
def test_half_an_archive_changes_nothing(sealed_once: tuple[Path, bytes, str], share: float) -> None:
    folder, content, before = sealed_once
    half = folder.parent / "half.tar.gz"
    half.write_bytes(content[: int(len(content) * share)])
    with contextlib.suppress(ModelError):
        restore_backup(half, folder)
    assert everything(folder) == before


@pytest.fixture
def sealed_once(sealed: SealVersion, backups: Path) -> tuple[Path, bytes, str]:
    folder, _ = sealed()
    return folder, make_backup(folder, backup_file(folder, backups)).read_bytes(), everything(folder)


def test_an_archive_of_other_files_than_its_manifest_names_is_refused(
    sealed: SealVersion, backups: Path, tmp_path: Path
) -> None:
    folder, _ = sealed()
    before = everything(folder)
    forged = packed(folder, tmp_path / "forged.tar.gz", a_file(f"{folder.name}/ner/model", b"other weights"))
    with pytest.raises(DigestMismatch, match="forged"):
        restore_backup(forged, folder)
    assert everything(folder) == before


# Hostile archives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "../../evil", "{version}/../../evil", "/tmp/karen-evil"])
def test_a_path_outside_is_refused(sealed: SealVersion, tmp_path: Path, name: str) -> None:
    folder, manifest = sealed()
    before = everything(folder)
    evil = packed(folder, tmp_path / "evil.tar.gz", a_file(name.format(version=manifest.version)))
    with contextlib.suppress(ModelError):
        restore_backup(evil, folder)
    assert not list(tmp_path.rglob("evil"))
    assert not Path("/tmp/karen-evil").exists()
    assert everything(folder) == before


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "config.cfg"),
        (tarfile.LNKTYPE, "{version}/config.cfg"),
        (tarfile.FIFOTYPE, ""),
        (tarfile.CHRTYPE, ""),
    ],
)
def test_links_and_devices_are_refused(sealed: SealVersion, tmp_path: Path, kind: bytes, link: str) -> None:
    folder, manifest = sealed()
    before = everything(folder)
    add = special(f"{manifest.version}/odd", kind, link.format(version=manifest.version))
    with pytest.raises(ModelError, match="neither a file nor a folder"):
        restore_backup(packed(folder, tmp_path / "odd.tar.gz", add), folder)
    assert everything(folder) == before


def test_an_archive_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        a_file("a/b/manifest.json")(archive)
    with pytest.raises(ModelError, match=r"it holds no manifest\.json"):
        restore_backup(tmp_path / "x.tar.gz", tmp_path / "target")
