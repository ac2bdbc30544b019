"""Jobs of a training backend and their reports.

Jobs name their tenant. A backend never runs two jobs of one tenant at the same time. Jobs of different
tenants may run in parallel.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from karen_learner.records.base import CycleMode, Record, Task
from karen_learner.settings import TrainingSettings

LabelSchema = Mapping[Task, tuple[str, ...]]
PredictionRow = tuple[str | None, str | None, tuple[tuple[int, int, str], ...] | None]
"""Intent, sentiment, entities; None if the model has no pipe for the task."""
RightRow = tuple[float | None, float | None]
"""A probability of the intent and of the sentiment; None if unknown."""


class PipelineSpec(Record):
    """Origin of a pipeline, and the pipe of each task.

    `path` is a folder or an installed package. Without it, a new pipeline is made from `template`, a spaCy
    config.
    """

    path: str | None = None
    tasks: Mapping[Task, str] = Field(default_factory=dict)
    template: Path
    language: str = "en"


class TrainJob(Record):
    """Train `pipeline` on `corpus`/train.jsonl, and save it to `output`.

    Each pipe replays up to `replay` examples of replay.jsonl. No pipe learns the lines in `left_out`.
    Shadow `shadow` leaves out the lines whose `held_out` has its bit; None trains the model that serves, on
    all lines. `calibration` is a folder that `PredictJob.calibration` wrote. A model that `stays_in_memory`
    is ready for the next training. The worker remembers the outputs of a shadow for its texts in `judged`,
    before and after the training. So a PredictJob need not load it.
    """

    kind: Literal["train"] = "train"
    tenant_id: str
    mode: CycleMode
    pipeline: PipelineSpec
    corpus: Path
    labels: LabelSchema
    settings: TrainingSettings
    replay: int = 0
    shadow: int | None = None
    left_out: Mapping[str, tuple[int, ...]] = Field(default_factory=dict)
    calibration: Path | None = None
    stays_in_memory: bool = True
    judged: Path | None = None
    output: Path


class PredictJob(Record):
    """Predict every text of the file `texts`, each with the model that its line names as `shadow`.

    A single model predicts all texts. The first `gold` lines fit the scale of the probabilities. With
    `calibration`, their margins are written to this folder.
    """

    kind: Literal["predict"] = "predict"
    tenant_id: str
    models: tuple[PipelineSpec, ...]
    texts: Path
    gold: int = 0
    calibration: Path | None = None


class PreloadJob(Record):
    """Load `pipeline` into the worker's memory before the next training needs it."""

    kind: Literal["preload"] = "preload"
    tenant_id: str
    pipeline: PipelineSpec


class PassReport(Record):
    """A pass over the training data of one task. `shadow` is None for the model that serves.

    `words` and `seconds` include the passes since the last report.
    """

    task: Task
    iteration: int
    total: int
    loss: float
    words: int
    seconds: float
    shadow: int | None = None


class TrainReport(Record):
    """A candidate on disk at `TrainJob.output`.

    `tasks` maps tasks to pipes, `examples` trained tasks to their numbers of examples. `replayed` are the
    lines of replay.jsonl, from 0, that at least one pipe trained on.
    """

    tasks: Mapping[Task, str]
    examples: Mapping[Task, int]
    replayed: tuple[int, ...] = ()
    skipped: int
    skipped_reasons: tuple[str, ...] = ()


class Predicted(Record):
    """A prediction, and the probabilities of the gold labels (`right`) and of the predicted ones (`sure`)."""

    row: PredictionRow
    right: RightRow = (None, None)
    sure: RightRow = (None, None)


class PredictReport(Record):
    """The predictions in the order of the lines, and the mean time for a text in milliseconds."""

    predicted: tuple[Predicted, ...]
    ms_per_text: float = 0.0


class PreloadReport(Record):
    """The pipeline is in memory."""
