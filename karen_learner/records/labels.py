"""Changes of label names: renamed, merged and retired labels."""

from __future__ import annotations

from collections.abc import Mapping

from karen_learner.records.base import Label, Record, Task

Successors = Mapping[Task, Mapping[str, str | None]]
"""The present label of each former label, by task; None for a retired one."""


class LabelChange(Record):
    """A label of a task gets the name of its successor. Without one it is retired."""

    task: Task
    label: Label
    successor: Label | None = None


class LabelReport(Record):
    """The effect of a change.

    `examples` had the label, and `gold` of them are gold. `contributions` are the labels that people and
    files gave. `set_aside` examples have no label any more and are quarantined. A dry run is not `done`.
    """

    task: Task
    label: str
    successor: str | None
    examples: int
    gold: int
    contributions: int
    set_aside: int
    done: bool


class LabelRow(Record):
    """A label of the schema with the number of its examples. `in_model`: the model that serves knows it."""

    task: Task
    label: str
    examples: int
    in_model: bool
    formerly: tuple[str, ...] = ()
