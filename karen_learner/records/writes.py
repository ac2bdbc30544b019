"""Writes of the store: each is one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from karen_learner.records.base import Split
from karen_learner.records.conversations import Turn
from karen_learner.records.cycles import ModelVersion
from karen_learner.records.texts import Example


@dataclass(frozen=True, kw_only=True)
class AwaitingTurn:
    """A turn that awaits curation. `revision` counts the changes by later feedback."""

    turn: Turn
    revision: int

    @property
    def mark(self) -> tuple[int, int]:
        """Entry of this turn in `CurationWrite.curated`."""
        return self.turn.seq or 0, self.revision


@dataclass(frozen=True, kw_only=True)
class ReadSet:
    """What decisions rest on, as it was read: examples by `key`, and the splits of groups. What was
    looked for and not there is None."""

    examples: Mapping[str, Example | None]
    splits: Mapping[str, Split | None]


@dataclass(frozen=True, kw_only=True)
class CurationWrite:
    """What one page of curation decided; written in a single transaction.

    `curated` holds (seq, revision) of the curated turns; a turn with a newer revision keeps awaiting.
    `upserts` replace the example with the same `example_id`, or are new. With a `read_set` they are written
    only if the stored values equal it.
    """

    upserts: Sequence[Example] = ()
    curated: Sequence[tuple[int, int]] = ()
    read_set: ReadSet | None = None


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A change of champion and all that must become true with it, in a single transaction.

    `expected` is the champion that the caller believes in; if it is another one by now, nothing is
    written and False is returned. `version` is written as a new row unless it exists already.
    `learned` are examples as the version was trained on them: those that are pending and still say the
    same become `learned`. They and the ids in `replayed` enter the lineage. When the version is no
    child of the champion, versions are undone by it: what was learned in them is `pending` again.
    `pseudo_labelled` are the `seq` of the turns without feedback that the version learned from; those of
    the tenant are stored (see `MemoryStore.pseudo_labelled_turns`).
    """

    version: ModelVersion
    expected: str | None
    learned: Sequence[Example] = ()
    replayed: Sequence[str] = ()
    pseudo_labelled: Sequence[int] = ()
