from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from karen_learner.models.versions import Manifest, candidate_digest, seal, version_name

WriteFiles = Callable[[Path], Path]
SealVersion = Callable[..., tuple[Path, Manifest]]


def _write(folder: Path) -> Path:
    """A folder like a saved pipeline. Versions may contain any files."""
    (folder / "ner").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "config.cfg").write_text("[nlp]\n")
    (folder / "ner" / "model").write_bytes(bytes(range(256)) * 8)
    return folder


@pytest.fixture
def write_files() -> WriteFiles:
    return _write


@pytest.fixture
def sealed(tmp_path: Path) -> SealVersion:
    """Make a version below `tmp_path/models`; returns its folder and manifest."""

    def make(number: int = 1, *, content: str = "", **changes: Any) -> tuple[Path, Manifest]:
        staging = _write(tmp_path / "models" / ".staging" / f"c{number}")
        (staging / "extra").write_text(content or str(number))
        digest = candidate_digest(staging)
        manifest = Manifest(
            tenant_id="acme", version=version_name(number, digest), digest=digest, parent=None, mode="full",
            cycle_id=f"c{number}", created_at=datetime.now(timezone.utc), tasks={"intent": "intent"},
        ).model_copy(update=changes)  # fmt: skip
        target = tmp_path / "models" / manifest.version
        seal(staging, target, manifest)
        return target, manifest

    return make
