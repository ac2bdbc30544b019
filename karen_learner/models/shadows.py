"""Shadows of a version on disk: one pipeline for each, and the predictions of the judged texts.

A shadow only judges. It is never served, and has no backup: a cycle trains missing shadows anew.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from karen_learner.models.files import move_into_place, remove_folder, replace_file, sync_folder
from karen_learner.private_files import make_folder
from karen_learner.records import Record, Task
from karen_learner.records.labels import Successors
from karen_learner.records.training import Predicted
from karen_learner.relabelling import relabelled_predictions

logger = logging.getLogger(__name__)

INDEX = "shadows.json"
JUDGED = "judged.jsonl"


class ShadowIndex(Record):
    """The number of folds, and the tasks of each shadow.

    The masks of the `generation` describe the shadows.
    """

    folds: int
    generation: str
    tasks: tuple[Mapping[Task, str], ...]


class JudgedText(Record):
    """The prediction of a version's shadow for a judged text."""

    example_id: str
    predicted: Predicted


def shadow_folder(folder: Path, shadow: int) -> Path:
    """The pipeline of a shadow."""
    return folder / str(shadow)


def read_index(folder: Path) -> ShadowIndex | None:
    """The index of complete shadows; None if any is missing."""
    try:
        index = ShadowIndex.model_validate_json((folder / INDEX).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        logger.warning("the shadows in %s cannot be read, and are trained anew: %s", folder, error)
        return None
    complete = all((shadow_folder(folder, k) / "meta.json").is_file() for k in range(len(index.tasks)))
    return index if complete else None


def write_index(folder: Path, index: ShadowIndex) -> None:
    """Write the index of shadows: they are complete."""
    make_folder(folder)
    replace_file(folder / INDEX, index.model_dump_json().encode())


def write_judged(folder: Path, judged: Sequence[JudgedText]) -> None:
    """Write the predictions of the judged texts, without the texts."""
    make_folder(folder)
    content = "".join(one.model_dump_json() + "\n" for one in judged)
    replace_file(folder / JUDGED, content.encode())


def keep_judged(folder: Path, staging: Path) -> None:
    """Copy the predictions of the judged texts to shadows that replace those of the folder."""
    if (folder / JUDGED).is_file():
        replace_file(staging / JUDGED, (folder / JUDGED).read_bytes())


def read_judged(folder: Path, successors: Successors) -> dict[str, Predicted]:
    """The predictions by example id, with the present names of labels; empty without a readable file."""
    try:
        lines = (folder / JUDGED).read_text("utf-8").split("\n")
        judged = [JudgedText.model_validate_json(line) for line in lines if line]
        present = relabelled_predictions([one.predicted for one in judged], successors)
        return {one.example_id: predicted for one, predicted in zip(judged, present, strict=True)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("the judged texts in %s cannot be read: %s", folder, error)
        return {}


def place_shadows(staging: Path, target: Path) -> None:
    """Move complete shadows to the folder of their version. An unfinished earlier move is replaced."""
    remove_folder(target)
    sync_folder(staging)
    move_into_place(staging, target)


def prune_shadows(
    shadows: Path, *, keep: frozenset[str], judged_only: frozenset[str] = frozenset()
) -> list[str]:
    """Remove the shadows of all versions except those in `keep`. Returns the generations of these.

    Versions in `judged_only` keep the predictions of the judged texts, without the pipelines.
    """
    generations: list[str] = []
    for path in shadows.glob("*"):
        if path.name in judged_only - keep:
            _keep_only_judged(path)
        elif path.name not in keep:
            remove_folder(path)
        elif (index := read_index(path)) is not None:
            generations.append(index.generation)
    return generations


def _keep_only_judged(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == INDEX:
            path.unlink()
        elif path.is_dir():
            remove_folder(path)
