"""Decisions of curation and cycles on examples: saved, withdrawn, rejected, learned, waiting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select

from karen_learner.concurrency import CHUNK, chunks
from karen_learner.memory import contributions, examples, labels, lease_rows, tenants
from karen_learner.memory.tables import Condition, turns
from karen_learner.memory.tables import examples as rows
from karen_learner.memory.turns import mark_curated
from karen_learner.records import DISCARDED, ROLLED_BACK, Contribution, CurationWrite, Example, ReadSet
from karen_learner.resolution import NEEDS_NEWS, with_contributions

IS_WAITING = (rows.c.state == "quarantined", rows.c.reason == ROLLED_BACK)
HARMFUL = "harmful"
"""`Example.reason` of examples that are quarantined after rejections for harm."""


def save_curation(
    connection: Connection, tenant_id: str, curated: CurationWrite, *, token: int | None = None
) -> bool:
    """Write one page of decisions. False if its read set changed, or with former labels. Raises FencedOut."""
    lease_rows.check(connection, tenant_id, token)
    if curated.read_set is not None and not _is_unchanged(connection, tenant_id, curated.read_set):
        return False
    tenant = tenants.ensure(connection, tenant_id)
    if labels.has_former_labels(connection, tenant, [*curated.upserts, *curated.contributions]):
        return False
    _save(connection, tenant, curated.upserts)
    contributions.remove(connection, tenant, curated.replaced)
    contributions.add(connection, tenant, curated.contributions)
    _withdraw_since(connection, tenant, [*curated.upserts, *curated.contributions])
    mark_curated(connection, tenant, curated.curated)
    return True


def withdraw(connection: Connection, tenant: int, turn_ids: Sequence[str]) -> None:
    """Delete the contributions from these turns, and resolve the others to their texts again.

    An example that only these turns contributed to loses its content.
    """
    for piece in chunks(turn_ids):
        gone = contributions.of_turns(connection, tenant, piece)
        made = examples.find(connection, rows.c.tenant == tenant, rows.c.turn_id.in_(piece))
        _withdraw(connection, tenant, gone, made)


def withdraw_user(connection: Connection, tenant: int, user_id: str, *, limit: int) -> int:
    """As `withdraw`, for up to `limit` contributions of a user. How many."""
    gone = contributions.of_user(connection, tenant, user_id, limit=limit)
    _withdraw(connection, tenant, gone, [])
    return len(gone)


def _withdraw(
    connection: Connection, tenant: int, gone: Sequence[Contribution], made: Sequence[Example]
) -> None:
    """Delete contributions, and resolve their examples and those in `made` again."""
    found = list(made)
    for some in chunks(sorted({each.key for each in gone} - {example.key for example in found})):
        found += examples.find(connection, rows.c.tenant == tenant, rows.c.key.in_(some))
    contributed = contributions.of_texts(connection, tenant, [example.key for example in found])
    numbers = {each.seq for each in gone if each.seq is not None}
    contributions.remove(connection, tenant, sorted(numbers))
    left = [
        with_contributions(
            example, [each for each in contributed.get(example.key, ()) if each.seq not in numbers]
        )
        for example in found
    ]
    examples.write(connection, tenant, found, left)


def reject(
    connection: Connection,
    tenant_id: str,
    trained: Sequence[Example],
    *,
    harmful: bool,
    quarantine_at: int,
    token: int | None = None,
) -> int:
    """Count a harmful rejection on pending examples; the number of examples that this quarantined."""
    lease_rows.check(connection, tenant_id, token)
    if not harmful:
        return 0
    tenant = tenants.ensure(connection, tenant_id)
    quarantined = 0
    for old in _as_trained(connection, tenant, trained):
        feedback = [example for example in old if not example.is_gold]
        new = [_rejected(example, quarantine_at) for example in feedback]
        examples.write(connection, tenant, feedback, new)
        quarantined += sum(example.state == "quarantined" for example in new)
    return quarantined


def learn(connection: Connection, tenant: int, trained: Sequence[Example], version: str) -> None:
    """Pending examples with the trained text and labels become `learned`."""
    learned = {"state": "learned", "learned_in": version}
    for old in _as_trained(connection, tenant, trained):
        examples.write(connection, tenant, old, [example.model_copy(update=learned) for example in old])


def unlearn(connection: Connection, tenant: int, version: str, numbers: Sequence[int]) -> None:
    """The examples among these that were learned in the version wait because of a rollback."""
    learned = (rows.c.seq.in_(numbers), rows.c.learned_in == version, rows.c.state == "learned")
    _update(connection, tenant, *learned, state="quarantined", reason=ROLLED_BACK)


def undo_pending(connection: Connection, tenant: int, numbers: Sequence[int]) -> None:
    """The pending examples among these wait because of a rollback."""
    pending = (rows.c.seq.in_(numbers), rows.c.state == "pending")
    _update(connection, tenant, *pending, state="quarantined", reason=ROLLED_BACK)


def relearn(connection: Connection, tenant: int, version: str, numbers: Sequence[int]) -> None:
    """The examples among these that wait since the version was undone are `learned` again."""
    waiting = (rows.c.seq.in_(numbers), rows.c.learned_in == version, *IS_WAITING)
    _update(connection, tenant, *waiting, state="learned", reason=None)


def end_waiting(connection: Connection, tenant_id: str, *, release: bool) -> int:
    """Examples that wait become `pending`, or stay quarantined as discarded; their number."""
    tenant, ended = tenants.ensure(connection, tenant_id), 0
    pending = {"state": "pending", "reason": None, "learned_in": None}
    changes = pending if release else {"reason": DISCARDED}
    for is_gold in (True, False):
        waiting = select(rows.c.seq).where(rows.c.tenant == tenant, rows.c.is_gold == is_gold, *IS_WAITING)
        for numbers in pages_of_numbers(connection, waiting, rows.c.seq):
            ended += _update(connection, tenant, rows.c.seq.in_(numbers), **changes)
    return ended


def decide(connection: Connection, tenant_id: str, example_ids: Sequence[str], *, release: bool) -> int:
    """Excluded examples among these become `pending`, or are discarded, also those in conflict; their number.

    Examples without content, or with an unusable label, are never released.
    """
    tenant, ended = tenants.ensure(connection, tenant_id), 0
    excluded = (rows.c.state == "quarantined") & rows.c.reason.in_(NEEDS_NEWS)
    releasing = {"state": "pending", "reason": None, "learned_in": None, "rejections": 0}
    discarding = {"state": "quarantined", "reason": DISCARDED}
    where = excluded if release else excluded & (rows.c.reason != DISCARDED) | (rows.c.state == "conflict")
    for piece in chunks(list(dict.fromkeys(example_ids))):
        changes = releasing if release else discarding
        ended += _update(connection, tenant, rows.c.example_id.in_(piece), where, **changes)
    return ended


def pages_of_numbers(
    connection: Connection, numbers: Select[Any], column: ColumnElement[int]
) -> Iterator[Sequence[int]]:
    """The selected numbers in order, in pages that fit into one statement."""
    after, ordered = 0, numbers.order_by(column).limit(CHUNK)
    while page := connection.execute(ordered.where(column > after)).scalars().all():
        yield page
        after = page[-1]


def _update(connection: Connection, tenant: int, *where: Condition, **changes: str | int | None) -> int:
    """Change the examples that meet all conditions; their number."""
    old = examples.find(connection, rows.c.tenant == tenant, *where)
    examples.write(connection, tenant, old, [example.model_copy(update=changes) for example in old])
    return len(old)


def _is_unchanged(connection: Connection, tenant_id: str, read_set: ReadSet) -> bool:
    present = examples.by_key(connection, tenant_id, list(read_set.examples))
    numbers = contributions.numbers_by_key(connection, tenant_id, list(read_set.contributions))
    if any(numbers.get(key, ()) != tuple(read) for key, read in read_set.contributions.items()):
        return False
    return all(present.get(key) == read for key, read in read_set.examples.items())


def _save(connection: Connection, tenant: int, upserts: Sequence[Example]) -> None:
    for piece in _pieces(upserts):
        old = examples.by_ids(connection, tenant, [example.example_id for example in piece])
        examples.write(connection, tenant, old, piece)


def _withdraw_since(connection: Connection, tenant: int, new: Sequence[Example | Contribution]) -> None:
    """Withdraw the turns whose consent was withdrawn since they were read."""
    for piece in chunks(sorted({each.turn_id for each in new if each.turn_id is not None})):
        here = (turns.c.tenant == tenant, turns.c.turn_id.in_(piece), ~turns.c.has_words)
        withdraw(connection, tenant, connection.execute(select(turns.c.turn_id).where(*here)).scalars().all())


def _as_trained(connection: Connection, tenant: int, trained: Sequence[Example]) -> Iterator[list[Example]]:
    """Rows, in pieces, that are pending and have the text and labels of training.

    Feedback may have changed the labels since, or the user has withdrawn consent.
    """
    for piece in _pieces(trained):
        wanted = {example.example_id: _content(example) for example in piece}
        found = examples.by_ids(connection, tenant, list(wanted))
        yield [row for row in found if row.state == "pending" and _content(row) == wanted[row.example_id]]


def _pieces(several: Sequence[Example]) -> Iterator[Sequence[Example]]:
    """Pieces with distinct ids; the last example of an id is used."""
    return chunks(list({example.example_id: example for example in several}.values()))


def _content(example: Example) -> tuple[object, ...]:
    return example.text, example.intent, example.sentiment, example.entities, example.unannotated


def _rejected(example: Example, quarantine_at: int) -> Example:
    rejections = example.rejections + 1
    if rejections < quarantine_at:
        return example.model_copy(update={"rejections": rejections})
    return example.model_copy(update={"rejections": rejections, "state": "quarantined", "reason": HARMFUL})
