"""What the worker process is asked and what it answers: plain JSON lines, one message each.

A request is a `TrainJob`, a `PredictJob`, a `CrossValidateJob` or a `ReadJob`; the answer to it is any number
of `Progress` messages and then one `Done` or `Failed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from karen_learner.records import CycleMode, Record, Task
from karen_learner.settings import TrainingSettings

LabelSchema = Mapping[Task, tuple[str, ...]]
PredictionRow = tuple[str | None, str | None, tuple[tuple[int, int, str], ...] | None]
"""Intent, sentiment, entities; None where the model has no pipe for the task."""
RightRow = tuple[float | None, float | None]
"""The probability given to the right intent and to the right sentiment; None where either is not known."""


class PipelineSpec(Record):
    """Where a pipeline comes from, and which of its pipes does which task.

    `path` is a folder or an installed package; without it, the pipeline is made new from `template`.
    """

    path: str | None = None
    tasks: Mapping[Task, str] = Field(default_factory=dict)
    template: Path
    language: str = "en"


class TrainJob(Record):
    """Train `pipeline` on `corpus`/train.jsonl, choose by dev.jsonl, save it to `output`.

    Of what lies in replay.jsonl each pipe trains on up to `replay` examples again; of the texts in
    unlabelled.jsonl on those whose label it is sure of.
    """

    kind: Literal["train"] = "train"
    mode: CycleMode
    pipeline: PipelineSpec
    corpus: Path
    labels: LabelSchema
    settings: TrainingSettings
    replay: int = 0
    output: Path


class PredictJob(Record):
    """Predict every text of `corpus`/holdout.jsonl with each of the models, in order."""

    kind: Literal["predict"] = "predict"
    models: tuple[PipelineSpec, ...]
    corpus: Path


class CrossValidateJob(Record):
    """Estimate accuracies by `folds`-fold cross-validation over `corpus`/train.jsonl."""

    kind: Literal["cross_validate"] = "cross_validate"
    pipeline: PipelineSpec
    corpus: Path
    labels: LabelSchema
    settings: TrainingSettings
    folds: int = Field(default=3, ge=2)


class ReadJob(Record):
    """Read `pipeline` into memory, so that a training that continues from it need not."""

    kind: Literal["read"] = "read"
    pipeline: PipelineSpec


Job = TrainJob | PredictJob | CrossValidateJob | ReadJob
AnyJob: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


class PassReport(Record):
    """One pass over the data of one task. `score` is that of the development split; None without one, and if
    the passes are too few to choose from."""

    task: Task
    iteration: int
    total: int
    loss: float
    words: int
    seconds: float
    score: float | None
    is_best: bool

    @property
    def words_per_second(self) -> float:
        return self.words / self.seconds if self.seconds > 0 else 0.0


class CalibrationSummary(Record):
    """How far the scores of a pipe can be believed, on the examples that were held back.

    `ece_before`, `ece_after`: expected calibration errors. `false_alarms`: the share of the examples that
    is told to be out of scope.
    """

    examples: int
    ece_before: float
    ece_after: float
    false_alarms: float | None


class TaskReport(Record):
    """How the training of one pipe went."""

    pipe: str
    examples: int
    passes: int
    words: int
    seconds: float
    best_score: float | None
    last_loss: float
    calibration: CalibrationSummary | None = None


class TrainReport(Record):
    """A candidate on disk at `TrainJob.output`.

    `replayed` are the lines of replay.jsonl, from 0, that at least one pipe trained on again; `guessed`
    those of unlabelled.jsonl that at least one pipe gave a label and trained on.
    """

    tasks: Mapping[Task, str]
    by_task: Mapping[Task, TaskReport]
    replayed: tuple[int, ...] = ()
    guessed: tuple[int, ...] = ()
    skipped: int
    skipped_reasons: tuple[str, ...] = ()


class PredictReport(Record):
    """One list of rows for each model, in the order of the holdout's lines; `right` goes with `rows`."""

    rows: tuple[tuple[PredictionRow, ...], ...]
    right: tuple[tuple[RightRow, ...], ...]


class CrossValidateReport(Record):
    """The mean score of each task over the folds."""

    scores: Mapping[Task, float]


class ReadReport(Record):
    """The pipeline is in memory."""


Report = TrainReport | PredictReport | CrossValidateReport | ReadReport


class Progress(Record):
    kind: Literal["progress"] = "progress"
    report: PassReport


class Done(Record):
    kind: Literal["done"] = "done"
    report: dict[str, object]


class Failed(Record):
    """`error` is the class name of the cause: the parent raises the same one where it knows it."""

    kind: Literal["failed"] = "failed"
    error: str
    message: str
    trace: str = ""


Message = Progress | Done | Failed
AnyMessage: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
