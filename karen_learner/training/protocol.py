"""Messages between parent and worker process: JSON lines, one message each.

The first line of the parent is the `Setup`. A request is one job. The answer is any number of messages with
`progress`, and then one with `report` or `failure`. Each message starts with `MARK`: the parent ignores other
lines, which Python's startup files may print.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from karen_learner.models.user_code import RegisteredCode
from karen_learner.records import Record
from karen_learner.records.training import PassReport, PredictJob, PreloadJob, TrainJob

MARK = b"karen:"
Job = TrainJob | PredictJob | PreloadJob
AnyJob: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


class Setup(Record):
    """The first line of the parent: the code of users to import (`training.imports`) and to register."""

    imports: tuple[str, ...] = ()
    code: RegisteredCode = RegisteredCode()


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
