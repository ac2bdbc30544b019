"""Calibration across folds: margins of shadows calibrate the model that serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import srsly

from karen_learner.components.textcat.calibration import fit_scale, probabilities
from karen_learner.components.textcat.margins import LabelledMargins
from karen_learner.components.textcat.pipe import BaseTextCategorizer
from karen_learner.records import CATEGORY_TASKS, Task
from karen_learner.training.pipelines import TrainablePipeline

MIN_CALIBRATION_EXAMPLES = 40
"""With fewer examples the error of the false-alarm rate exceeds a few percent."""


def write_margins(folder: Path, task: Task, margins: LabelledMargins, labels: Sequence[str]) -> None:
    """Write the margins of texts, and their gold labels."""
    folder.mkdir(parents=True, exist_ok=True)
    margins.to_file(folder / f"{task}.npz")
    srsly.write_json(folder / f"{task}.json", list(labels))


def calibrate(pipeline: TrainablePipeline, folder: Path, *, false_alarm_rate: float) -> None:
    """Calibrate our text categorizers on the margins in the folder.

    With too few texts, or none whose label the pipe knows, the previous calibration stays.
    """
    for task in CATEGORY_TASKS:
        if task not in pipeline.tasks or not (folder / f"{task}.npz").is_file():
            continue
        pipe = pipeline.pipe(task)
        labels: list[str] = srsly.read_json(folder / f"{task}.json")
        known = sum(label in pipe.labels for label in labels)
        if isinstance(pipe, BaseTextCategorizer) and known >= MIN_CALIBRATION_EXAMPLES:
            pipe.calibrate_margins(
                LabelledMargins.from_file(folder / f"{task}.npz"),
                [{label: 1.0} for label in labels],
                false_alarm_rate=false_alarm_rate,
            )


def scaled(
    margins: LabelledMargins, labels: Sequence[str | None], *, fitted: Sequence[bool]
) -> tuple[list[float | None], list[float | None]]:
    """The probabilities of the label and of the likeliest label of each text.

    The scale is that which fits the texts in `fitted` best; without a known label all are None. The first one
    is None for a text without label, and for a label outside the model of its margins.
    """
    columns = {label: column for column, label in enumerate(margins.labels)}
    values = margins.values.margins
    found = [None if label is None else columns.get(label) for label in labels]
    known = [
        row for row, column in enumerate(found) if column is not None and np.isfinite(values[row, column])
    ]
    if not known:
        return [None] * len(labels), [None] * len(labels)
    used = [row for row in known if fitted[row]] or known
    truths = np.zeros((len(used), len(margins.labels)), dtype=np.float32)
    truths[np.arange(len(used)), [found[row] or 0 for row in used]] = 1.0
    scale = fit_scale(values[used], truths, exclusive=True)
    scores = probabilities(values, scale, exclusive=True)
    result: list[float | None] = [None] * len(labels)
    for row in known:
        result[row] = float(scores[row, found[row] or 0])
    return result, [float(value) for value in np.nanmax(scores, axis=1)]


def share_of(scores: Mapping[str, float], label: str | None) -> float | None:
    """The share of a label in the scores of all labels; None for an unknown label."""
    if label is None or label not in scores:
        return None
    total = sum(scores.values())
    return scores[label] / total if total > 0.0 else None
