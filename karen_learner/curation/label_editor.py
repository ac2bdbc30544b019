"""Labels of a tenant: listed, renamed, merged and retired by a person."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from karen_learner.contracts import MemoryStore
from karen_learner.curation.curator import Curator
from karen_learner.curation.examples import Schema
from karen_learner.errors import InvalidInput
from karen_learner.records import TASKS, Task
from karen_learner.records.labels import LabelChange, LabelReport, LabelRow

Edit = Literal["rename", "merge", "retire"]


@dataclass(frozen=True)
class LabelEditor:
    """Checks changes of labels, and lists labels."""

    store: MemoryStore
    curator: Curator

    async def rows(self, tenant_id: str, in_model: Collection[tuple[Task, str]]) -> tuple[LabelRow, ...]:
        """The labels of the schema by task. `in_model` are those that the model that serves knows."""
        former: defaultdict[tuple[Task, str | None], list[str]] = defaultdict(list)
        for task, labels in (await self.store.label_successors(tenant_id)).items():
            for label, successor in sorted(labels.items()):
                former[task, successor].append(label)
        schema = await self.store.labels(tenant_id)
        return tuple(
            LabelRow(
                task=task,
                label=label,
                examples=count,
                in_model=(task, label) in in_model,
                formerly=tuple(former[task, label]),
            )
            for task in TASKS
            for label, count in schema.get(task, {}).items()
        )

    async def edit(
        self,
        tenant_id: str,
        edit: Edit,
        label: str,
        successor: str | None = None,
        *,
        task: Task | None,
        dry_run: bool,
    ) -> LabelReport:
        """Rename, merge or retire a label. A dry run changes nothing.

        Raises InvalidInput for an unknown label, one of several tasks without `task`, or an unfit successor,
        and LabelCollision.
        """
        schema = await self.store.labels(tenant_id)
        found = task if task is not None else await self._task_of(tenant_id, label, schema)
        change = _checked(found, edit, label, successor, schema)
        plan = await self.store.change_label(tenant_id, change, dry_run=True)
        if label not in schema.get(found, ()) and not (plan.examples or plan.contributions):
            raise _unknown(label, schema)
        return plan if dry_run else await self.curator.change_label(tenant_id, change)

    async def _task_of(self, tenant_id: str, label: str, schema: Schema) -> Task:
        """The task of a label: of the schema, or of feedback alone."""
        tasks = [task for task in TASKS if label in schema.get(task, ())]
        if not tasks:
            plans = [await self._retired(tenant_id, task, label) for task in TASKS]
            tasks = [plan.task for plan in plans if plan.examples or plan.contributions]
        if not tasks:
            raise _unknown(label, schema)
        if len(tasks) > 1:
            raise InvalidInput(f"{label!r} is a label of {' and '.join(tasks)}: name the task")
        return tasks[0]

    async def _retired(self, tenant_id: str, task: Task, label: str) -> LabelReport:
        return await self.store.change_label(tenant_id, LabelChange(task=task, label=label), dry_run=True)


def _checked(task: Task, edit: Edit, label: str, successor: str | None, schema: Schema) -> LabelChange:
    if task not in TASKS:
        raise InvalidInput(f"unknown task {task!r}: use one of {', '.join(TASKS)}")
    try:
        change = LabelChange(task=task, label=label, successor=successor)
    except ValidationError as error:
        raise InvalidInput(f"a label has 1 to 200 characters: {error.errors()[0]['msg']}") from error
    known = schema.get(task, {})
    if edit != "retire" and (successor is None or not successor.strip() or "\x00" in successor):
        raise InvalidInput(f"{successor!r} cannot be a label")
    if successor == label:
        raise InvalidInput(f"the label is {label!r} already")
    if edit == "rename" and successor in known:
        raise InvalidInput(f"there is a label {successor!r} of {task} already: merge the two")
    if edit == "merge" and successor not in known:
        raise InvalidInput(
            f"there is no label {successor!r} of {task}: rename {label!r}, or name another one"
        )
    return change


def _unknown(label: str, schema: Schema) -> InvalidInput:
    known = sorted({name for names in schema.values() for name in names})
    near = difflib.get_close_matches(label, known, n=1)
    return InvalidInput(f"no text has the label {label!r}{f'; did you mean {near[0]!r}?' if near else ''}")
