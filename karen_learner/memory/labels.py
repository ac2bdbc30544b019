"""Renamed, merged and retired labels: one transaction changes all rows with a label."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, select, update

from karen_learner.concurrency import chunks
from karen_learner.errors import LabelCollision
from karen_learner.memory import contributions, counters, examples, tenants
from karen_learner.memory.tables import Condition, former_labels
from karen_learner.memory.tables import contributions as contribution_rows
from karen_learner.memory.tables import examples as example_rows
from karen_learner.memory.types import insert
from karen_learner.records import CATEGORY_TASKS, Contribution, Example, Task
from karen_learner.records.labels import LabelChange, LabelReport, Successors
from karen_learner.relabelling import has_former_label, relabelled, relabelled_contribution
from karen_learner.resolution import is_excluded, resolve, settled


def successors(connection: Connection, tenant_id: str) -> Successors:
    """The present label of each former one, by task; None for a retired label."""
    return _successors(connection, former_labels.c.tenant == tenants.number_of(tenant_id))


def has_former_labels(connection: Connection, tenant: int, several: Iterable[Example | Contribution]) -> bool:
    """Whether one of these has a label that was renamed or retired."""
    former = _successors(connection, former_labels.c.tenant == tenant)
    return bool(former) and any(each.reason is None and has_former_label(each, former) for each in several)


def _successors(connection: Connection, here: Condition) -> Successors:
    found: defaultdict[Task, dict[str, str | None]] = defaultdict(dict)
    for row in connection.execute(select(former_labels).where(here)):
        found[row.task][row.label] = row.successor
    return dict(found)


def change(
    connection: Connection, tenant_id: str, change: LabelChange, *, dry_run: bool = False
) -> LabelReport:
    """Give the successor to all examples and contributions with the label, and resolve their texts again.

    Raises LabelCollision, with nothing written, if the successor is a label of the other category task.
    """
    _check_collision(connection, tenant_id, change)
    tenant = tenants.ensure(connection, tenant_id)
    one: Successors = {change.task: {change.label: change.successor}}
    tally = dict.fromkeys(("examples", "gold", "contributions", "set_aside"), 0)
    for keys in chunks(_keys(connection, tenant, change)):
        here = (example_rows.c.tenant == tenant, example_rows.c.key.in_(keys))
        old, contributed = examples.find(connection, *here), contributions.of_texts(connection, tenant, keys)
        renamed = {
            key: [relabelled_contribution(each, one) for each in several]
            for key, several in contributed.items()
        }
        new = [_changed(example, renamed.get(example.key, ()), one) for example in old]
        having = [example for example in old if has_former_label(example, one)]
        tally["examples"] += len(having)
        tally["gold"] += sum(example.is_gold for example in having)
        tally["contributions"] += sum(
            a != b for key in contributed for a, b in zip(contributed[key], renamed[key], strict=True)
        )
        tally["set_aside"] += sum(
            after.state == "quarantined" != before.state for before, after in zip(old, new, strict=True)
        )
        if not dry_run:
            examples.write(connection, tenant, old, new)
            _replace(connection, tenant, contributed, renamed)
    if not dry_run:
        _record(connection, tenant, change)
    return LabelReport(**change.model_dump(), **tally, done=not dry_run)


def _check_collision(connection: Connection, tenant_id: str, change: LabelChange) -> None:
    schema = counters.label_schema(connection, tenant_id)
    for task in CATEGORY_TASKS:
        if change.task in CATEGORY_TASKS and task != change.task and change.successor in schema[task]:
            raise LabelCollision.between([str(change.successor)])


def _keys(connection: Connection, tenant: int, change: LabelChange) -> list[str]:
    """The keys of the texts that have the label in an example or a contribution."""
    keys: set[str] = set()
    for table in (example_rows, contribution_rows):
        column = table.c[change.task]
        has = column.is_not(None) if change.task == "entities" else column == change.label
        for key, value in connection.execute(
            select(table.c.key, column).where(table.c.tenant == tenant, has)
        ):
            if change.task != "entities" or any(label == change.label for _, _, label in value):
                keys.add(key)
    return sorted(keys)


def _changed(example: Example, contributed: Sequence[Contribution], one: Successors) -> Example:
    """The example that follows from the changed contributions. Gold that was set aside stays so."""
    changed = relabelled(example, one)
    resolved = resolve(contributed, quorum=sys.maxsize if example.is_gold else 1)
    if resolved is not None:
        return resolved.annotated(changed) if is_excluded(example) else settled(changed, resolved)
    if changed.tasks or not example.tasks:
        return changed
    task = example.tasks[0]
    reason = f"the {task} {getattr(example, task)!r} is retired"
    return example.model_copy(update={"state": "quarantined", "reason": reason})


def _replace(
    connection: Connection,
    tenant: int,
    contributed: Mapping[str, Sequence[Contribution]],
    renamed: Mapping[str, Sequence[Contribution]],
) -> None:
    """Replace all contributions to changed texts, in their order: others notice by the new numbers."""
    changed = [key for key, several in contributed.items() if tuple(renamed[key]) != tuple(several)]
    numbers = [each.seq for key in changed for each in contributed[key] if each.seq is not None]
    contributions.remove(connection, tenant, numbers)
    contributions.add(connection, tenant, [each for key in changed for each in renamed[key]])


def _record(connection: Connection, tenant: int, change: LabelChange) -> None:
    """The schema has the successor in place of the label, and former labels lead to it."""
    counters.undeclare(connection, tenant, change.task, change.label)
    here = (former_labels.c.tenant == tenant, former_labels.c.task == change.task)
    if change.successor is not None:
        counters.declare_in(connection, tenant, {change.task: [change.successor]})
    led_here = update(former_labels).where(*here, former_labels.c.successor == change.label)
    connection.execute(led_here.values(successor=change.successor))
    row = {"tenant": tenant, "task": change.task, "label": change.label, "successor": change.successor}
    statement = insert(connection, former_labels)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant", "task", "label"], set_={"successor": statement.excluded.successor}
        ),
        [row],
    )
