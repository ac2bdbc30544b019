"""Counters, updated in the transaction that changes the counted rows.

Each row contributes `turn_counts`, `example_counts` or `cycle_counts`, and every write adds the difference.
So each counter equals the sum of these functions over the rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, get_args

from sqlalchemy import Connection, delete, func, select

from karen_learner.concurrency import chunks
from karen_learner.errors import LabelCollision
from karen_learner.memory import tenants
from karen_learner.memory.tables import counters, former_labels
from karen_learner.memory.types import insert
from karen_learner.records import (
    TASKS,
    CycleRow,
    Example,
    ExampleState,
    LearningCycleResult,
    Task,
    TenantCounts,
    Turn,
    VersionCounts,
)

Counts = dict[tuple[str, str], float]
"""Amounts by family and name of a counter."""

TURNS = "turns"
EXAMPLES = "examples"
SETS = "sets"
CYCLES = "cycles"
TALLIES = "tallies"


class TurnKind(NamedTuple):
    """The counted properties of a stored turn."""

    with_feedback: bool
    corrections: bool
    awaiting_curation: bool
    degraded: bool
    version: str | None


def turn_kind(turn: Turn, *, awaiting: bool) -> TurnKind:
    """The counted properties of a turn."""
    feedback, metadata = turn.feedback, turn.metadata
    is_correction = feedback is not None and feedback.is_correction
    return TurnKind(feedback is not None, is_correction, awaiting, metadata.degraded, metadata.model_version)


def turn_counts(kind: TurnKind, times: int = 1) -> Counts:
    """Contribution of `times` stored turns of a kind."""
    names = [name for name, applies in zip(TurnKind._fields[:-1], kind, strict=False) if applies]
    counts: Counts = {(TURNS, name): times for name in ("turns", *names)}
    if kind.version is not None:
        family = _version_family(kind.version)
        counts.update(((family, name), times) for name in ("turns", *names) if name != "awaiting_curation")
    return counts


def example_counts(example: Example) -> Counts:
    """Contribution of a stored example."""
    counts: Counts = {
        (EXAMPLES, example.state): 1,
        (_stratum_family(example.state, is_gold=example.is_gold), example.stratum): 1,
    }
    if example.is_gold and example.state in ("pending", "learned"):
        counts[SETS, "gold"] = 1
    if example.is_waiting:
        counts[SETS, "waiting"] = 1
    if example.state != "quarantined":
        counts.update((name, 1) for name in _label_counters(example))
    return counts


def cycle_counts(row: CycleRow) -> Counts:
    """Contribution of a journal row."""
    counts: Counts = {(CYCLES, "cycles"): 1}
    if row.result is not None:
        counts.update(((TALLIES, name), amount) for name, amount in _tally(row.result))
    return counts


def change(old: Counts, new: Counts) -> Counts:
    """Amounts to add when the contribution of a row changes from `old` to `new`."""
    amounts = {name: new.get(name, 0) - old.get(name, 0) for name in old.keys() | new.keys()}
    return {name: amount for name, amount in amounts.items() if amount}


def total(parts: Iterable[Counts]) -> Counts:
    """The sum of several changes."""
    sums: defaultdict[tuple[str, str], float] = defaultdict(float)
    for part in parts:
        for name, amount in part.items():
            sums[name] += amount
    return {name: amount for name, amount in sums.items() if amount}


def add(connection: Connection, changes: Mapping[int, Counts]) -> None:
    """Add amounts to the counters of tenants (by number)."""
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
    """The counts of one tenant; zeros for an unknown one."""
    found = _read(connection, tenant_id, (TURNS, EXAMPLES, SETS, CYCLES))
    by_state = {
        state: found[EXAMPLES, state] for state in get_args(ExampleState) if (EXAMPLES, state) in found
    }
    names = {name: amount for (family, name), amount in found.items() if family != EXAMPLES}
    return TenantCounts(examples=by_state, **names)


def of_version(connection: Connection, tenant_id: str, version: str) -> VersionCounts:
    """The counts of the turns that a version analysed."""
    found = _read(connection, tenant_id, (_version_family(version),))
    return VersionCounts(**{name: amount for (_, name), amount in found.items()})


def total_turns(connection: Connection) -> int:
    """The turns of all tenants."""
    is_turns = (counters.c.family == TURNS, counters.c.name == "turns")
    return int(connection.execute(select(func.sum(counters.c.value)).where(*is_turns)).scalar() or 0)


def strata(
    connection: Connection, tenant_id: str, *, state: ExampleState, gold: bool | None = None
) -> Mapping[str, int]:
    """Examples by stratum: gold, feedback, or both (None)."""
    kinds = (True, False) if gold is None else (gold,)
    families = [_stratum_family(state, is_gold=is_gold) for is_gold in kinds]
    amounts: Counter[str] = Counter()
    for (_, name), amount in _read(connection, tenant_id, families).items():
        amounts[name] += amount
    return amounts


def label_schema(connection: Connection, tenant_id: str) -> Mapping[Task, Mapping[str, int]]:
    """The label schema with the number of examples of each label."""
    families = [f"{kind}/{task}" for task in TASKS for kind in ("labels", "gold", "declared")]
    found = _read(connection, tenant_id, families)
    return {task: _schema(found, task) for task in TASKS}


def declare(connection: Connection, tenant_id: str, labels: Mapping[Task, Sequence[str]]) -> None:
    """Add labels to the schema without an example. Raises LabelCollision."""
    declare_in(connection, tenants.ensure(connection, tenant_id), labels)
    schema = label_schema(connection, tenant_id)
    both = schema["intent"].keys() & schema["sentiment"].keys()
    if both:
        raise LabelCollision.between(both)


def declare_in(connection: Connection, tenant: int, labels: Mapping[Task, Sequence[str]]) -> None:
    """Add labels to the schema of a tenant (by number). They are no former labels any more."""
    rows = [
        {"tenant": tenant, "family": f"declared/{task}", "name": label, "value": 1}
        for task, names in labels.items()
        for label in names
    ]
    if rows:
        connection.execute(insert(connection, counters).on_conflict_do_nothing(), rows)
    for task, names in labels.items():
        here = (former_labels.c.tenant == tenant, former_labels.c.task == task)
        for piece in chunks(names):
            connection.execute(delete(former_labels).where(*here, former_labels.c.label.in_(piece)))


def undeclare(connection: Connection, tenant: int, task: Task, label: str) -> None:
    """Remove a declared label of a tenant (by number)."""
    here = (counters.c.tenant == tenant, counters.c.family == f"declared/{task}", counters.c.name == label)
    connection.execute(delete(counters).where(*here))


def gold_labels(connection: Connection, tenant_id: str, task: Task) -> dict[str, int]:
    """The number of gold examples of each label of a task, without quarantined ones."""
    found = _read(connection, tenant_id, (f"gold/{task}",))
    return {name: amount for (_, name), amount in found.items()}


def tallies(connection: Connection, tenant_id: str | None) -> Mapping[str, float]:
    """Sums over the finished cycles of one tenant, or of all."""
    statement = select(counters.c.name, func.sum(counters.c.value).label("amount")).where(
        counters.c.family == TALLIES, counters.c.value != 0
    )
    if tenant_id is not None:
        statement = statement.where(counters.c.tenant == tenants.number_of(tenant_id))
    found = connection.execute(statement.group_by(counters.c.name).order_by(counters.c.name))
    return {row.name: row.amount for row in found}


def _version_family(version: str) -> str:
    return f"version/{version}"


def _stratum_family(state: ExampleState, *, is_gold: bool) -> str:
    return f"strata/{state}/{'gold' if is_gold else 'feedback'}"


def _tally(result: LearningCycleResult) -> Iterator[tuple[str, float]]:
    yield "total", 1
    yield result.status, 1
    if result.model_improved:
        yield "improved", 1
    if "training" in result.stage_seconds:
        yield "trained", 1
        yield "training_seconds", result.stage_seconds["training"]


def _label_counters(example: Example) -> Iterator[tuple[str, str]]:
    """`labels/<task>` counts examples of a label; `gold/<task>` only gold ones, which define the schema."""
    labels_of_example: set[tuple[Task, str]] = {("entities", span.label) for span in example.entities or ()}
    if example.intent is not None:
        labels_of_example.add(("intent", example.intent))
    if example.sentiment is not None:
        labels_of_example.add(("sentiment", example.sentiment))
    for task, label in labels_of_example:
        yield f"labels/{task}", label
        if example.is_gold:
            yield f"gold/{task}", label


def _schema(found: Mapping[tuple[str, str], int], task: Task) -> Mapping[str, int]:
    names = sorted({name for family, name in found if family in (f"gold/{task}", f"declared/{task}")})
    return {name: found.get((f"labels/{task}", name), 0) for name in names}


def _read(connection: Connection, tenant_id: str, families: Sequence[str]) -> dict[tuple[str, str], int]:
    statement = select(counters.c.family, counters.c.name, counters.c.value).where(
        counters.c.tenant == tenants.number_of(tenant_id),
        counters.c.family.in_(families),
        counters.c.value != 0,
    )
    return {(family, name): int(amount) for family, name, amount in connection.execute(statement)}
