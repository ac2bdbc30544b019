"""The base version of a home: a pipeline trained on shared texts, from which new tenants start."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from karen_learner.disk import make_folder
from karen_learner.models.files import HomeLayout, replace_file, sync_path
from karen_learner.records import Record, Task

logger = logging.getLogger(__name__)

CURRENT = "current.json"


class BaseVersion(Record):
    """A base version: its pipeline is `HomeLayout.base(name)`.

    `texts` is the number of labelled texts, `labels` the number of labels of each task. `scores` are out of
    fold. `digest` is that of the pipeline's files.
    """

    name: str
    language: str
    tasks: Mapping[Task, str]
    created_at: datetime
    files: tuple[str, ...]
    texts: int
    labels: Mapping[Task, int]
    scores: Mapping[str, float]
    digest: str


def read_base(layout: HomeLayout) -> BaseVersion | None:
    """The base version of a home. None without one, or with a warning if it is damaged."""
    file = layout.base(CURRENT).with_name(CURRENT)
    try:
        base = BaseVersion.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):  # the home itself may not be a folder
        return None
    except (OSError, ValidationError) as error:
        logger.warning("%s is not readable: %s; build the base again", file, type(error).__name__)
        return None
    if not layout.base(base.name).is_dir():
        logger.warning("the files of the base version %s are missing: build it again", base.name)
        return None
    return base


def use_base(layout: HomeLayout, base: BaseVersion) -> None:
    """Make a base version that of new tenants, durably."""
    file = layout.base(CURRENT).with_name(CURRENT)
    make_folder(file.parent)
    replace_file(file, base.model_dump_json(indent=2).encode())


def remove_base(layout: HomeLayout) -> None:
    """New tenants start from nothing again. The files of the pipeline stay for running programs."""
    file = layout.base(CURRENT).with_name(CURRENT)
    file.unlink(missing_ok=True)
    if file.parent.is_dir():
        sync_path(file.parent)


def name_pipeline(folder: Path, *, name: str, version: str) -> str:
    """Write name and version of a saved pipeline; the full name, with its language."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    meta |= {"name": name, "version": version}
    replace_file(folder / "meta.json", json.dumps(meta, indent=2).encode())
    return f"{meta['lang']}_{name}-{version}"
