"""Messages between parent and worker process: JSON lines, one message each.

A request is one job. The answer is any number of messages with `progress`, and then one with `report` or
`failure`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from karen_learner.records import Record
from karen_learner.records.training import (
    PassReport,
    PredictJob,
    PreloadJob,
    TrainJob,
)

Job = TrainJob | PredictJob | PreloadJob
AnyJob: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


class Failure(Record):
    """`error` is the class name of the cause. The parent raises the same class if it knows it."""

    error: str
    message: str
    trace: str = ""


class Message(Record):
    """A message of the worker: one of the fields has a value."""

    progress: PassReport | None = None
    report: dict[str, object] | None = None
    failure: Failure | None = None
