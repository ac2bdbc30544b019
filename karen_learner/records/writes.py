"""Writes of the store: each is one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from karen_learner.records.base import Task
from karen_learner.records.cycles import CycleRow, ModelVersion
from karen_learner.records.holdbacks import Holdback
from karen_learner.records.texts import Contribution, Example

CHAMPION = "champion"
"""The alias of the version that serves a tenant, unless a provisional one does."""
PROVISIONAL = "provisional"
"""The alias of the version that serves instead of the champion until the next decision."""
ANCHOR = "anchor/"
"""Prefix of the aliases of the best version of each task."""


@dataclass(frozen=True, kw_only=True)
class ReadSet:
    """Examples by `key` that a decision depends on; None for absent ones.

    `contributions` has the `seq` of each contribution to a text, by `key`, in order.
    """

    examples: Mapping[str, Example | None]
    contributions: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CurationWrite:
    """Decisions of one page of curation, written in a single transaction.

    `curated` holds (seq, revision) of the curated turns; a turn with a newer revision keeps awaiting.
    `upserts` replace the example with the same `example_id`, or are new. `contributions` are new, and those
    with a `seq` in `replaced` are deleted. With a `read_set` all this is written only if the stored values
    equal it.
    """

    upserts: Sequence[Example] = ()
    contributions: Sequence[Contribution] = ()
    replaced: Sequence[int] = ()
    curated: Sequence[tuple[int, int]] = ()
    read_set: ReadSet | None = None


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A change of an alias with all its consequences, in a single transaction.

    If the alias is not the version `expected` (None: unset), nothing is written. `version` is inserted unless
    it exists. `learned` are the examples of training. Those that are still pending with the same text and
    labels become `learned`. They and the ids in `replayed` form the lineage.
    Examples of former versions outside the ancestry of the new champion wait: they become `quarantined` with
    the reason `rolled back`. Examples that wait are `learned` again if the new ancestry has their version.
    `masks` are added to those of the `generation` of the shadows. The version becomes the best one of the
    tasks in `anchors`. The best version of a task that is outside the ancestry of the new champion is
    replaced by it. A new champion ends a provisional version. Unless it is the next version after the former
    champion, the pending examples of the provisional version wait, too.

    The next version after the champion begins the `holdback`, unless one runs. Any other change of the
    champion ends the running one.

    A provisional version must be a child of the champion, else nothing is written. `journal` is the finished
    row of a rollback.
    """

    version: ModelVersion
    expected: str | None
    alias: str = CHAMPION
    learned: Sequence[Example] = ()
    replayed: Sequence[str] = ()
    masks: Mapping[str, int] = field(default_factory=dict)
    generation: str = ""
    anchors: Sequence[Task] = ()
    journal: CycleRow | None = None
    holdback: Holdback | None = None
