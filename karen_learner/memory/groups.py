"""Groups of near-duplicates: the split that each is in, for as long as it has members.

A group's name is made from words, so a group is forgotten with the last example that belonged to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, select, update

from karen_learner.memory import tenants
from karen_learner.memory.dialects import chunks, insert
from karen_learner.memory.tables import groups
from karen_learner.records import NO_CONSENT, Example, Split


def splits(connection: Connection, tenant_id: str, wanted: Sequence[str]) -> Mapping[str, Split]:
    """The split of each of these groups that has one."""
    here = groups.c.tenant == tenants.number_of(tenant_id)
    found: dict[str, Split] = {}
    for piece in chunks(list(dict.fromkeys(wanted))):
        statement = select(groups.c.group_key, groups.c.split).where(here, groups.c.group_key.in_(piece))
        found.update((name, split) for name, split in connection.execute(statement))
    return found


def follow(connection: Connection, tenant: int, old: Sequence[Example], new: Sequence[Example]) -> None:
    """Let the groups follow a change of examples from `old` to `new`."""
    joined = [example for example in new if _is_member(example)]
    left = [example.group for example in old if _is_member(example)]
    _join(connection, tenant, joined)
    _leave(connection, tenant, Counter(left))


def _is_member(example: Example) -> bool:
    return example.reason != NO_CONSENT


def _join(connection: Connection, tenant: int, joined: Sequence[Example]) -> None:
    members = Counter(example.group for example in joined)
    rows = [
        {"tenant": tenant, "group_key": name, "split": split, "members": members[name]}
        for name, split in {example.group: example.split for example in joined}.items()
    ]
    if rows:
        statement = insert(connection, groups)
        more = {"split": statement.excluded.split, "members": groups.c.members + statement.excluded.members}
        found = ["tenant", "group_key"]
        connection.execute(statement.on_conflict_do_update(index_elements=found, set_=more), rows)


def _leave(connection: Connection, tenant: int, left: Mapping[str, int]) -> None:
    if not left:
        return
    here = (groups.c.tenant == tenant, groups.c.group_key == bindparam("name"))
    fewer = update(groups).where(*here).values(members=groups.c.members - bindparam("fewer"))
    connection.execute(fewer, [{"name": name, "fewer": count} for name, count in left.items()])
    empty = (groups.c.tenant == tenant, groups.c.members <= 0)
    for piece in chunks(list(left)):
        connection.execute(delete(groups).where(*empty, groups.c.group_key.in_(piece)))
