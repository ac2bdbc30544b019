"""Labels of feedback that the label schema lacks, and the people who use them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from karen_learner.curation.examples import Schema
from karen_learner.records import CATEGORY_TASKS, Contribution, Task
from karen_learner.records.labels import Successors
from karen_learner.resolution import task_labels


class UnknownLabels:
    """Counts the people who use each label that the schema lacks.

    A task without labels gets none: feedback does not add a task to a model. A label of the other category
    task is left out, because it would be both an intent and a sentiment.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._people: dict[tuple[Task, str], set[str | None]] = defaultdict(set)

    def add(self, contributions: Iterable[Contribution]) -> None:
        for each in contributions:
            for task, label in task_labels(each):
                if self._schema.get(task) and label not in self._schema[task]:
                    self._people[task, label].add(each.person)

    def used_by(self, quorum: int, *, former: Successors) -> Mapping[Task, list[str]]:
        """The labels by task that at least `quorum` people use, without former labels."""
        taken = {label: task for task in CATEGORY_TASKS for label in self._schema.get(task, ())}
        found: dict[Task, list[str]] = defaultdict(list)
        for (task, label), people in sorted(self._people.items()):
            if len(people) < quorum or label in former.get(task, ()):
                continue
            if task in CATEGORY_TASKS and taken.setdefault(label, task) != task:
                continue
            found[task].append(label)
        return found
