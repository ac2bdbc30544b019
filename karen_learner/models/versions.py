"""Immutable version folders (a saved spaCy pipeline and its manifest), and the rows that list them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import srsly
from asyncio_extras import call_in_executor
from pydantic import Field, ValidationError

from karen_learner.components.textcat.calibration import Calibration
from karen_learner.contracts import MemoryStore
from karen_learner.errors import DigestMismatch, InvalidInput, ModelError, UnknownVersion
from karen_learner.models.files import (
    HomeLayout,
    folder_digest,
    move_into_place,
    replace_file,
    sync_folder,
)
from karen_learner.records import PROVISIONAL, CycleMode, IdKind, ModelVersion, Record, Task

MANIFEST = "manifest.json"
NOT_DIGESTED = frozenset({MANIFEST})
LIBRARIES = ("karen-learner", "spacy", "thinc", "numpy")


class Manifest(Record):
    """Origin and digest of a version."""

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
    """Installed releases of the libraries that a model depends on."""
    return {name: found for name in LIBRARIES if (found := release_of(name))}


def release_of(name: str) -> str | None:
    """The installed release of a distribution; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def version_name(number: int, digest: str) -> str:
    """A name such as `v0012-3f2a9c1e`: sequence number and digest."""
    return f"v{number:04d}-{digest[:8]}"


def candidate_digest(folder: Path) -> str:
    """The digest of the pipeline in `folder`."""
    return folder_digest(folder, leave_out=NOT_DIGESTED)


def seal(staging: Path, target: Path, manifest: Manifest) -> None:
    """Write the manifest into a candidate's folder, sync it, and move it to `target`."""
    replace_file(staging / MANIFEST, manifest.model_dump_json(indent=2).encode())
    sync_folder(staging)
    move_into_place(staging, target)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a version. Raises ModelError if it is missing or unreadable."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        reason = error if folder.is_dir() else "the folder is missing"
        raise ModelError(f"{folder} holds no readable {MANIFEST}: {reason}") from error


def intent_calibration(folder: Path) -> Calibration | None:
    """The calibration of the intents of a version; None without one, or without readable files."""
    try:
        pipe = read_manifest(folder).tasks.get("intent")
        record = srsly.read_json(folder / pipe / "cfg").get("calibration") if pipe is not None else None
        return None if record is None else Calibration.from_record(record)
    except (ModelError, OSError, ValueError, KeyError, TypeError):
        return None


def labels_in(folder: Path, tasks: Mapping[Task, str]) -> frozenset[tuple[Task, str]]:
    """The labels that the pipes of the tasks know, in a saved pipeline. Raises ModelError."""
    try:
        labels = srsly.read_json(folder / "meta.json").get("labels", {})
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no readable meta.json: {error}") from error
    return frozenset((task, label) for task, pipe in tasks.items() for label in labels.get(pipe, ()))


def saved_labels(version: ModelVersion) -> frozenset[tuple[Task, str]]:
    """The labels that a version knows, from unchecked files; none if they cannot be read. Blocking."""
    try:
        return labels_in(version.path, read_manifest(version.path).tasks)
    except ModelError:
        return frozenset()


def verify(folder: Path, *, digest: str) -> Manifest:
    """The manifest of a version, after a check of its files against `digest` (of the store).

    Raises DigestMismatch or ModelError.
    """
    manifest = read_manifest(folder)
    try:
        found = candidate_digest(folder)
    except OSError as error:
        raise ModelError(f"the files of {folder} cannot be read: {error}") from error
    if found != digest or manifest.digest != digest:
        raise DigestMismatch(
            f"the files of {folder} changed: their digest is {found[:12]}, not {digest[:12]}"
        )
    return manifest


async def full_id(store: MemoryStore, tenant_id: str, kind: IdKind, part: str) -> str | None:
    """The id that equals the part, or the only one that begins with it; None without one.

    Raises InvalidInput for an ambiguous part, with the ids.
    """
    found = await store.matching_ids(tenant_id, kind, part)
    if len(found) > 1:
        raise InvalidInput(f"{part!r} is ambiguous: give more characters of one of {', '.join(found)}")
    return found[0] if found else None


class ModelRegistry:
    """Versions and champions of the store, with their present paths: a home may be moved."""

    def __init__(self, store: MemoryStore, layout: HomeLayout) -> None:
        self._store = store
        self._layout = layout

    async def champion(self, tenant_id: str) -> ModelVersion | None:
        """The tenant's champion."""
        version = await self._store.champion(tenant_id)
        return self._layout.placed(version) if version is not None else None

    async def provisional(self, tenant_id: str) -> ModelVersion | None:
        """The version that serves instead of the champion until the next decision."""
        version = await self._store.alias(tenant_id, PROVISIONAL)
        return self._layout.placed(version) if version is not None else None

    async def serving(self, tenant_id: str) -> ModelVersion | None:
        """The version that serves: the provisional one, else the champion."""
        return await self.provisional(tenant_id) or await self.champion(tenant_id)

    async def get(self, tenant_id: str, version: str) -> ModelVersion | None:
        """A version by its name."""
        found = await self._store.get_version(tenant_id, version)
        return self._layout.placed(found) if found is not None else None

    async def named(self, tenant_id: str, part: str) -> ModelVersion | None:
        """A version by its name, or by an unambiguous part of it (`v0007`). Raises InvalidInput."""
        name = await full_id(self._store, tenant_id, "version", part)
        return await self.get(tenant_id, name) if name is not None else None

    async def require(self, tenant_id: str, version: str | None = None) -> ModelVersion:
        """A version by a part of its name; without one, the version that serves.

        Raises UnknownVersion, InvalidInput.
        """
        if version is None:
            serving = await self.serving(tenant_id)
            if serving is None:
                raise UnknownVersion(f"{tenant_id!r} has no model yet: bootstrap it with labelled texts")
            return serving
        found = await self.named(tenant_id, version)
        if found is None:
            raise UnknownVersion(f"{tenant_id!r} has no version {version!r}: see `karen-learner versions`")
        return found

    async def versions(
        self, tenant_id: str, *, limit: int = 100, since: str | None = None
    ) -> Sequence[ModelVersion]:
        """Versions, newest first; with `since`, those after that version in order.

        Versions without files and backup are marked as removed.
        """
        rows = await self._store.versions(tenant_id, limit=limit, since=since)
        found = [self._layout.placed(one) for one in rows]
        marked: list[ModelVersion] = await call_in_executor(lambda: [_marked(one) for one in found])
        return marked


def _marked(version: ModelVersion) -> ModelVersion:
    saved = version.backup_path is not None and version.backup_path.is_file()
    return version.model_copy(update={"removed": not saved and not version.path.is_dir()})
