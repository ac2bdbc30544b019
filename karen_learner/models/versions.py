"""Immutable version folders: a saved spaCy pipeline and its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from karen_learner.errors import DigestMismatch, ModelError
from karen_learner.models.files import folder_digest, move_into_place, replace_file, sync_folder
from karen_learner.records import CycleMode, Record, Task

MANIFEST = "manifest.json"
NOT_DIGESTED = frozenset({MANIFEST})
LIBRARIES = ("karen-learner", "spacy", "thinc", "numpy")


class Manifest(Record):
    """What a version is: enough to know where it came from and to refuse it when it was changed."""

    tenant_id: str
    version: str
    digest: str
    parent: str | None
    mode: CycleMode
    cycle_id: str
    created_at: datetime
    tasks: Mapping[Task, str]
    counts: Mapping[str, int] = Field(default_factory=dict)
    scores: Mapping[str, float] = Field(default_factory=dict)
    settings: Mapping[str, Any] = Field(default_factory=dict)
    libraries: Mapping[str, str] = Field(default_factory=dict)


def library_versions() -> dict[str, str]:
    """The releases that a model was made with."""
    return {name: found for name in LIBRARIES if (found := _release(name))}


def _release(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def version_name(number: int, digest: str) -> str:
    """`v0012-3f2a9c1e`: in order of making, and telling contents apart."""
    return f"v{number:04d}-{digest[:8]}"


def candidate_digest(folder: Path) -> str:
    """The digest of the pipeline in `folder`."""
    return folder_digest(folder, leave_out=NOT_DIGESTED)


def seal(staging: Path, target: Path, manifest: Manifest) -> None:
    """Make a candidate a version: manifest, everything synced, then moved into place."""
    replace_file(staging / MANIFEST, manifest.model_dump_json(indent=2).encode())
    sync_folder(staging)
    move_into_place(staging, target)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a version. Raises ModelError when there is none that can be read."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelError(f"{folder} holds no readable {MANIFEST}: {error}") from error


def verify(folder: Path, *, digest: str) -> Manifest:
    """The manifest, once the files have been found to be what `digest` (from the store) says.

    Raises DigestMismatch or ModelError.
    """
    manifest = read_manifest(folder)
    try:
        found = candidate_digest(folder)
    except OSError as error:
        raise ModelError(f"the files of {folder} cannot be read: {error}") from error
    if found != digest or manifest.digest != digest:
        raise DigestMismatch(
            f"the files of {folder} were changed: their digest is {found[:12]}, not {digest[:12]}; "
            "the version is not loaded, its backup is restored where there is one"
        )
    return manifest
