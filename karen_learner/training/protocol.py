"""Messages between parent and worker process: JSON lines, one message each.

A request is one job. The answer is any number of `Progress` messages and then one `Done` or `Failed`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from karen_learner.records import Record
from karen_learner.records.training import (
    CrossValidateJob,
    CrossValidateReport,
    PassReport,
    PredictJob,
    PredictReport,
    PreloadJob,
    PreloadReport,
    TrainJob,
    TrainReport,
)

Job = TrainJob | PredictJob | CrossValidateJob | PreloadJob
AnyJob: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])
Report = TrainReport | PredictReport | CrossValidateReport | PreloadReport


class Progress(Record):
    kind: Literal["progress"] = "progress"
    report: PassReport


class Done(Record):
    kind: Literal["done"] = "done"
    report: dict[str, object]


class Failed(Record):
    """`error` is the class name of the cause. The parent raises the same class if it knows it."""

    kind: Literal["failed"] = "failed"
    error: str
    message: str
    trace: str = ""


Message = Progress | Done | Failed
AnyMessage: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
