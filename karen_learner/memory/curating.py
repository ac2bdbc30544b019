"""Saving what curation decided, without losing feedback that came in the meantime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from karen_learner.memory import examples, groups, leases, tenants, turns
from karen_learner.memory.turns import StoredTurn
from karen_learner.records import CurationWrite, ReadSet


class Seen:
    """In which revision each turn was handed out to curation.

    Feedback may change a turn between its reading and the saving of what was decided on it. Such a
    turn must go on waiting, so it is marked as curated only in the revision that was seen.
    """

    def __init__(self) -> None:
        self._revisions: dict[int, int] = {}

    def note(self, page: Sequence[StoredTurn]) -> None:
        """These turns are being handed out."""
        self._revisions.update((stored.turn.seq or 0, stored.revision) for stored in page)

    def of(self, seqs: Sequence[int]) -> Mapping[int, int | None]:
        """The revision of each turn; None for one that was not handed out."""
        return {seq: self._revisions.get(seq) for seq in seqs}

    def forget(self, seqs: Sequence[int]) -> None:
        """These turns have been dealt with."""
        for seq in seqs:
            self._revisions.pop(seq, None)


def save_curation(
    connection: Connection,
    tenant_id: str,
    outcome: CurationWrite,
    seen: Mapping[int, int | None],
    token: int | None,
) -> bool:
    """Write one page of decisions, unless what they rest on was changed. Raises FencedOut."""
    tenant = tenants.ensure(connection, tenant_id)
    leases.check(connection, tenant, tenant_id, token)
    if outcome.read_set is not None:
        tenants.lock(connection, tenant)
        if not _holds(connection, tenant_id, outcome.read_set):
            return False
    examples.save(connection, tenant, outcome.upserts)
    turns.mark_curated(connection, tenant, seen)
    return True


def _holds(connection: Connection, tenant_id: str, read_set: ReadSet) -> bool:
    standing = examples.by_key(connection, tenant_id, list(read_set.examples))
    splits = groups.splits(connection, tenant_id, list(read_set.splits))
    return all(standing.get(key) == read for key, read in read_set.examples.items()) and all(
        splits.get(group) == read for group, read in read_set.splits.items()
    )
