"""Counters, kept up to date in the transaction that changes what they count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from sqlalchemy import Connection, func, select

from karen_learner.errors import LabelCollision
from karen_learner.memory import tenants
from karen_learner.memory.counting import (
    CYCLES,
    EXAMPLES,
    SETS,
    TALLIES,
    TURNS,
    Counts,
    declared_family,
    gold_family,
    label_family,
    stratum_family,
)
from karen_learner.memory.dialects import insert
from karen_learner.memory.tables import counters
from karen_learner.records import TASKS, ExampleState, Split, Task, TenantCounts


def add(connection: Connection, changes: Mapping[int, Counts]) -> None:
    """Add amounts to the counters of some tenants (by number)."""
    rows = [
        {"tenant": tenant, "family": family, "name": name, "value": amount}
        for tenant, counts in changes.items()
        for (family, name), amount in counts.items()
        if amount
    ]
    if rows:
        statement = insert(connection, counters)
        added = {"value": counters.c.value + statement.excluded.value}
        connection.execute(
            statement.on_conflict_do_update(index_elements=["tenant", "family", "name"], set_=added), rows
        )


def overview(connection: Connection, tenant_id: str) -> TenantCounts:
    """The counts of one tenant; zeros for one that is unknown."""
    found = _read(connection, tenant_id, (TURNS, EXAMPLES, SETS, CYCLES))
    by_state = {
        state: found[EXAMPLES, state] for state in get_args(ExampleState) if (EXAMPLES, state) in found
    }
    names = {name: amount for (family, name), amount in found.items() if family != EXAMPLES}
    return TenantCounts(examples=by_state, **names)


def strata(connection: Connection, tenant_id: str, state: ExampleState, split: Split) -> Mapping[str, int]:
    """Examples by stratum."""
    family = stratum_family(state, split)
    return {name: amount for (_, name), amount in _read(connection, tenant_id, (family,)).items()}


def labels(connection: Connection, tenant_id: str) -> Mapping[Task, Mapping[str, int]]:
    """The schema with the number of examples of each label."""
    families = [kind(task) for task in TASKS for kind in (label_family, gold_family, declared_family)]
    found = _read(connection, tenant_id, families)
    return {task: _schema(found, task) for task in TASKS}


def declare(connection: Connection, tenant_id: str, wanted: Mapping[Task, Sequence[str]]) -> None:
    """Add labels to the schema that no example need carry. Raises LabelCollision."""
    tenant = tenants.ensure(connection, tenant_id)
    tenants.lock(connection, tenant)
    rows = [
        {"tenant": tenant, "family": declared_family(task), "name": label, "value": 1}
        for task, names in wanted.items()
        for label in names
    ]
    if rows:
        connection.execute(insert(connection, counters).on_conflict_do_nothing(), rows)
    schema = labels(connection, tenant_id)
    both = schema["intent"].keys() & schema["sentiment"].keys()
    if both:
        raise LabelCollision.between(both)


def tallies(connection: Connection, tenant_id: str | None) -> Mapping[str, float]:
    """Sums over the finished cycles of one tenant, or of all."""
    statement = select(counters.c.name, func.sum(counters.c.value).label("amount")).where(
        counters.c.family == TALLIES, counters.c.value != 0
    )
    if tenant_id is not None:
        statement = statement.where(counters.c.tenant == tenants.number_of(tenant_id))
    found = connection.execute(statement.group_by(counters.c.name).order_by(counters.c.name))
    return {row.name: row.amount for row in found}


def _schema(found: Mapping[tuple[str, str], int], task: Task) -> Mapping[str, int]:
    taught = (gold_family(task), declared_family(task))
    names = sorted({name for family, name in found if family in taught})
    return {name: found.get((label_family(task), name), 0) for name in names}


def _read(connection: Connection, tenant_id: str, families: Sequence[str]) -> dict[tuple[str, str], int]:
    statement = select(counters.c.family, counters.c.name, counters.c.value).where(
        counters.c.tenant == tenants.number_of(tenant_id),
        counters.c.family.in_(families),
        counters.c.value != 0,
    )
    return {(family, name): int(amount) for family, name, amount in connection.execute(statement)}
