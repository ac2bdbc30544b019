"""Versions: sealed atomically, and refused if a byte changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from karen_learner.errors import DigestMismatch, ModelError
from karen_learner.models.versions import (
    MANIFEST,
    Manifest,
    candidate_digest,
    library_versions,
    read_manifest,
    seal,
    verify,
    version_name,
)

SealVersion = Callable[..., tuple[Path, Manifest]]


def test_version_names_contain_number_and_digest() -> None:
    assert version_name(12, "3f2a9c1e77") == "v0012-3f2a9c1e"
    assert version_name(9, "f") < version_name(10, "a")


def test_a_sealed_version_has_a_manifest_with_its_origin(sealed: SealVersion) -> None:
    folder, manifest = sealed()
    assert verify(folder, digest=manifest.digest) == manifest
    assert read_manifest(folder).tasks == {"intent": "intent"}
    assert not (folder.parent / ".staging" / "c1").exists()
    assert {"spacy", "numpy", "thinc"} <= library_versions().keys()


def test_the_manifest_is_not_part_of_the_digest(sealed: SealVersion) -> None:
    folder, manifest = sealed()
    assert candidate_digest(folder) == manifest.digest


def test_sealing_does_not_replace_a_version(sealed: SealVersion) -> None:
    folder, manifest = sealed()
    other, _ = sealed(2)
    with pytest.raises(OSError, match="not empty"):
        seal(other, folder, manifest.model_copy(update={"tenant_id": "evil"}))
    assert verify(folder, digest=manifest.digest).tenant_id == "acme"


class Crash(BaseException):
    """Simulates the end of the process, without clean-up."""


@pytest.mark.parametrize("calls", range(1, 9))
def test_a_crash_while_sealing_leaves_a_complete_version_or_none(
    sealed: SealVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """The process ends at the n-th call of fsync. Each step ends with one call."""
    folder, manifest = sealed()
    staging, target, left = tmp_path / "staging", tmp_path / "target", calls
    folder.rename(staging)
    (staging / MANIFEST).unlink()
    fsync = os.fsync

    def counting(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Crash
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counting)
    with pytest.raises(Crash):
        seal(staging, target, manifest)
    if target.exists():
        assert verify(target, digest=manifest.digest) == manifest
    else:
        (staging / f"{MANIFEST}.partial").unlink(missing_ok=True)
        assert candidate_digest(staging) == manifest.digest


def test_changed_files_are_refused(sealed: SealVersion) -> None:
    folder, manifest = sealed()
    content = (folder / "ner" / "model").read_bytes()
    (folder / "ner" / "model").write_bytes(content[:-1] + b"\0")
    with pytest.raises(DigestMismatch, match="changed: their digest"):
        verify(folder, digest=manifest.digest)
    (folder / "ner" / "model").write_bytes(content)
    assert verify(folder, digest=manifest.digest)


@pytest.mark.parametrize("name", ["config.cfg", "ner/model"])
def test_missing_files_are_refused(sealed: SealVersion, name: str) -> None:
    folder, manifest = sealed()
    (folder / name).unlink()
    with pytest.raises(DigestMismatch):
        verify(folder, digest=manifest.digest)


def test_added_files_are_refused(sealed: SealVersion) -> None:
    folder, manifest = sealed()
    (folder / "ner" / "more.py").write_text("")
    with pytest.raises(DigestMismatch):
        verify(folder, digest=manifest.digest)


def test_a_folder_that_was_swapped_for_a_link_is_refused(sealed: SealVersion, tmp_path: Path) -> None:
    folder, manifest = sealed()
    (folder / "ner").rename(tmp_path / "elsewhere")
    (folder / "ner").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DigestMismatch):
        verify(folder, digest=manifest.digest)


def test_files_and_manifest_changed_together_are_refused(sealed: SealVersion) -> None:
    folder, manifest = sealed()
    (folder / "config.cfg").write_text("[nlp]\nevil = true\n")
    forged = manifest.model_copy(update={"digest": candidate_digest(folder)})
    (folder / MANIFEST).write_text(forged.model_dump_json())
    with pytest.raises(DigestMismatch):
        verify(folder, digest=manifest.digest)


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"tenant_id": "acme", "surprise": 1}'])
def test_an_unreadable_manifest_is_reported(sealed: SealVersion, content: str) -> None:
    folder, manifest = sealed()
    (folder / MANIFEST).write_text(content)
    with pytest.raises(ModelError, match=r"manifest\.json"):
        verify(folder, digest=manifest.digest)


def test_a_missing_version_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(ModelError, match="holds no readable"):
            verify(path, digest="x")
