"""Recomputes the stored keys of texts after a change of `text_identity`.

A key that no longer follows from its text would separate an example from later contributions to it. So the
store recomputes keys, groups, names of masks and ids of gold when it opens. It resolves moved texts again.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, select

from karen_learner.concurrency import CHUNK, chunks
from karen_learner.memory import contributions, examples, versions
from karen_learner.memory import tables as db
from karen_learner.memory.types import insert
from karen_learner.records import DUPLICATE, Contribution, Example
from karen_learner.resolution import is_excluded, resolve, settled, stratum
from karen_learner.text_identity import FUNCTION_WORDS, VERSION, digest, draw, example_id, group_key, text_key

PROPERTY = "text_identity"
"""The property with the version of the stored keys. Databases without it have version 1."""
GROUP_MASK = "group:{}"

_FORMER_OUTER = frozenset(" .,;:!?'\"`-–—()[]{}«»“”‘’„¿¡。、·")


def recompute(connection: Connection) -> None:
    """Bring all keys to the present version, in the transaction of `connection`."""
    found = connection.execute(select(db.properties.c.value).where(db.properties.c.name == PROPERTY)).scalar()
    if found == VERSION:
        return
    for tenant in connection.execute(select(db.tenants.c.tenant)).scalars().all():
        moved = {*_rekey_contributions(connection, tenant), *_rekey_examples(connection, tenant)}
        for piece in chunks(sorted(moved)):
            _resolve_again(connection, tenant, piece)
    statement = insert(connection, db.properties).values(name=PROPERTY, value=VERSION)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": VERSION}))


def _rekey_contributions(connection: Connection, tenant: int) -> Iterator[str]:
    """Recompute the keys of contributions; the keys that lose or get one."""
    rows = db.contributions
    for page in _pages(connection, rows, tenant, rows.c.key, rows.c.text):
        changes = [
            {"at": row.seq, "to": text_key(row.text)}
            for row in page
            if _is_outdated(row.key, row.text, _former_key, text_key)
        ]
        yield from (row.key for row in page if row.seq in {change["at"] for change in changes})
        yield from (str(change["to"]) for change in changes)
        _update(connection, rows, "key", changes)


def _rekey_examples(connection: Connection, tenant: int) -> Iterator[str]:
    """Recompute keys, groups and ids of examples; the keys that lose or get one."""
    rows = db.examples
    groups: dict[str, set[str]] = defaultdict(set)
    names: dict[int, str] = {}
    columns = (rows.c.example_id, rows.c.key, rows.c.group_key, rows.c.text)
    for page in _pages(connection, rows, tenant, *columns):
        keys = [row for row in page if _is_outdated(row.key, row.text, _former_key, text_key)]
        grouped = [row for row in page if _is_outdated(row.group_key, row.text, _former_group, group_key)]
        _update(connection, rows, "key", [{"at": row.seq, "to": text_key(row.text)} for row in keys])
        changes = [{"at": row.seq, "to": group_key(row.text)} for row in grouped]
        _update(connection, rows, "group_key", changes)
        for row in grouped:
            groups[row.group_key].add(group_key(row.text))
        for row in keys:
            yield row.key
            yield text_key(row.text)
            if row.example_id == example_id(key=row.key, turn_id=None):
                names[row.seq] = example_id(key=text_key(row.text), turn_id=None)
    _rename_masks(connection, tenant, groups)
    _rename(connection, tenant, names)


def _rename_masks(connection: Connection, tenant: int, groups: dict[str, set[str]]) -> None:
    """Copy the masks of former groups: a shadow that has learned from them must not judge the new ones."""
    rows = db.masks
    for piece in chunks(sorted(groups)):
        former = {GROUP_MASK.format(group): group for group in piece}
        here = (rows.c.tenant == tenant, rows.c.name.in_(list(former)))
        for row in connection.execute(select(rows.c.generation, rows.c.name, rows.c.mask).where(*here)).all():
            copies = {GROUP_MASK.format(new): row.mask for new in groups[former[row.name]]}
            versions.add_masks(connection, tenant, row.generation, copies)


def _rename(connection: Connection, tenant: int, names: dict[int, str]) -> None:
    """Rename gold after its new key, because other gold may get the former id. Taken names become unique."""
    rows = db.examples
    # A new name may be the former one of another example.
    _update(connection, rows, "example_id", [{"at": seq, "to": f"ex-renamed-{seq}"} for seq in names])
    taken: set[str] = set()
    for piece in chunks(sorted(names.values())):
        here = (rows.c.tenant == tenant, rows.c.example_id.in_(piece))
        taken.update(connection.execute(select(rows.c.example_id).where(*here)).scalars())
    changes = []
    for seq, name in names.items():
        changes.append({"at": seq, "to": f"ex-{digest(f'{name} {seq}')}" if name in taken else name})
        taken.add(name)
    _update(connection, rows, "example_id", changes)


def _resolve_again(connection: Connection, tenant: int, keys: Sequence[str]) -> None:
    """Resolve the examples of these keys. A contribution without an example founds one."""
    contributed = contributions.of_texts(connection, tenant, keys)
    here = (db.examples.c.tenant == tenant, db.examples.c.key.in_(keys))
    found: dict[str, list[Example]] = defaultdict(list)
    for example in examples.find(connection, *here):
        found[example.key].append(example)
    old = [example for several in found.values() for example in several]
    new: list[Example] = []
    for key in keys:
        several = sorted(found[key], key=lambda example: example.seq or 0)
        new += [one.model_copy(update={"state": "quarantined", "reason": DUPLICATE}) for one in several[:-1]]
        if several:
            new.append(_settled(several[-1], contributed.get(key, ())))
        elif key in contributed:
            new.append(_settled(_founded(contributed[key]), contributed[key]))
    examples.write(connection, tenant, old, new)


def _settled(example: Example, contributed: Sequence[Contribution]) -> Example:
    """The example with the labels of its contributions. Only contributions to come set gold aside."""
    resolved = resolve(contributed, quorum=sys.maxsize if example.is_gold else 1)
    return example if resolved is None or is_excluded(example) else settled(example, resolved)


def _founded(contributed: Sequence[Contribution]) -> Example:
    """A new example of contributions whose former example has another text."""
    newest = contributed[-1]
    name = f"ex-{digest(f'{newest.key} {newest.seq}')}"
    shared = {
        field: getattr(newest, field)
        for field in ("text", "intent", "sentiment", "entities", "unannotated", "key")
    }
    return Example(
        **shared,
        example_id=name,
        source=newest.source,
        quality=newest.quality,
        group=group_key(newest.text),
        stratum=stratum(newest),
        draw=draw(name, seed=0),
        user_id=newest.user_id,
        turn_id=newest.turn_id,
    )


def _pages(connection: Connection, table: Table, tenant: int, *columns: Any) -> Iterator[Sequence[Any]]:
    """All rows of a tenant in pages, with `seq` and these columns."""
    number, after = table.c.seq, 0
    rows = select(number, *columns).where(table.c.tenant == tenant).order_by(number).limit(CHUNK)
    while page := connection.execute(rows.where(number > after)).all():
        yield page
        after = page[-1].seq


def _update(connection: Connection, table: Table, column: str, changes: Sequence[dict[str, Any]]) -> None:
    """Set a column of the rows with the numbers `at` to the values `to`."""
    if changes:
        values = {column: bindparam("to", type_=table.c[column].type)}
        connection.execute(table.update().where(table.c.seq == bindparam("at")).values(values), changes)


def _is_outdated(key: str, text: str, former: Callable[[str], str], present: Callable[[str], str]) -> bool:
    """Whether the key follows from the text by the former function only. Removed texts have other keys."""
    return key != present(text) and key == former(text)


def _former_key(text: str) -> str:
    """`text_key` of version 1."""
    return digest(_former_normalised(text))


def _former_group(text: str) -> str:
    """`group_key` of version 1."""
    found = {re.sub(r"\d+", "0", word) for word in re.findall(r"\w+", _former_normalised(text))}
    content_words = sorted(found - FUNCTION_WORDS)
    return digest("\x00".join(content_words)) if content_words else _former_key(text)


def _former_normalised(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    spaced = " ".join(folded.split())
    inner = [at for at, character in enumerate(spaced) if character not in _FORMER_OUTER]
    return spaced[inner[0] : inner[-1] + 1] if inner else spaced
