"""New contributions of one page, resolved in order over the stored examples and contributions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from karen_learner.curation.examples import Unusable
from karen_learner.records import DISCARDED, NO_CONSENT, Contribution, Example
from karen_learner.records.labels import Successors
from karen_learner.relabelling import relabelled, relabelled_contribution
from karen_learner.resolution import Resolved, disputed, is_excluded, is_news, resolve, settled

Resolution = Literal["accepted", "merged", "conflicts", "quarantined"]
"""`accepted`: a new text, or a label that wins now. `merged`: agrees with the example. `conflicts`:
disputes the example and does not win. `quarantined`: cannot be learned."""

WITHDRAWN = "withdrawn"
"""`Example.reason` after the only rating of its text was replaced by feedback without a usable label."""
MAX_PER_TEXT = 100
"""Maximum number of contributions that are kept for one text."""

_SAME_NAME = [name for name in Contribution.model_fields if name in Example.model_fields and name != "seq"]


@dataclass(frozen=True)
class NewContribution:
    """A contribution, and the example that it founds if its text is new."""

    contribution: Contribution
    example: Example

    @classmethod
    def of(cls, example: Example, occurred_at: datetime) -> NewContribution:
        """The contribution with the labels, source and turn of an example."""
        return cls(_contribution(example, occurred_at), example)

    @property
    def key(self) -> str:
        return self.contribution.key


@dataclass(frozen=True)
class Withdrawal:
    """A turn whose newest feedback gives no usable label: its earlier contribution is withdrawn.

    With `is_gold`, the gold that a reviewer gave to the text of the turn is withdrawn instead.
    """

    key: str
    turn_id: str
    reason: Unusable
    is_gold: bool = False


@dataclass(frozen=True)
class Release:
    """A stored contribution whose labels have become usable."""

    unusable: Contribution

    @property
    def key(self) -> str:
        return self.unusable.key


PageEntry = NewContribution | Withdrawal | Release
Contributions = tuple[Contribution, ...]


def with_present_labels(entries: Sequence[PageEntry], successors: Successors) -> Sequence[PageEntry]:
    """The entries with the successors of labels that were renamed or retired since they were made."""
    if not successors:
        return entries
    return [
        _with_present_labels(entry, successors) if isinstance(entry, NewContribution) else entry
        for entry in entries
    ]


def _with_present_labels(entry: NewContribution, successors: Successors) -> NewContribution:
    contribution = relabelled_contribution(entry.contribution, successors)
    example = relabelled(entry.example, successors)
    if contribution.reason is not None and entry.contribution.reason is None:  # its only label is retired
        quarantined = {"state": "quarantined", "reason": contribution.reason}
        example = entry.example.model_copy(update=quarantined)
    return NewContribution(contribution, example)


def stored_keys(entries: Iterable[PageEntry]) -> list[str]:
    """The keys of the texts that the entries may change."""
    return sorted({entry.key for entry in entries})


class LabelResolver:
    """Resolves the entries of one page in order.

    `examples` and `contributions` are the stored ones by key. `quorum` is the number of people that sets gold
    aside.
    """

    def __init__(
        self,
        examples: Mapping[str, Example],
        contributions: Mapping[str, Sequence[Contribution]],
        *,
        quorum: int,
    ) -> None:
        self._stored = examples
        self._examples = dict(examples)
        self._stored_contributions = {key: tuple(several) for key, several in contributions.items()}
        self._contributions = dict(self._stored_contributions)
        self._quorum = quorum

    def resolve_all(self, entries: Sequence[PageEntry]) -> list[Resolution | Unusable]:
        """The resolution of each entry."""
        return [self.resolve(entry) for entry in entries]

    def resolve(self, entry: PageEntry) -> Resolution | Unusable:
        """The resolution of one entry, applied to the examples and contributions."""
        if isinstance(entry, Withdrawal):
            self._withdraw(entry)
            return entry.reason
        if isinstance(entry, Release):
            return self._release(entry)
        before, former = self._examples.get(entry.key), self._of(entry.key)
        if before is None and not former:
            return self._found(entry)
        after = _joined(_without_discarded_gold(before, former), entry.contribution)
        return self._apply(entry.contribution, entry.example, before, former, after)

    def _found(self, first: NewContribution) -> Resolution:
        self._examples[first.key] = first.example
        self._contributions[first.key] = (first.contribution,)
        return "accepted" if first.contribution.reason is None else "quarantined"

    def _withdraw(self, withdrawal: Withdrawal) -> None:
        example, former = self._examples.get(withdrawal.key), self._of(withdrawal.key)
        gone = (withdrawal.turn_id, withdrawal.is_gold)
        left = tuple(each for each in former if (each.turn_id, each.is_gold) != gone)
        if example is None or len(left) == len(former):
            return
        self._contributions[withdrawal.key] = left
        resolved = resolve(left, quorum=self._quorum)
        if resolved is None:
            quarantined = {"state": "quarantined", "reason": WITHDRAWN}
            self._examples[withdrawal.key] = example.model_copy(update=quarantined)
        else:
            self._settle(example, resolved, former, is_gold=withdrawal.is_gold)

    def _release(self, release: Release) -> Resolution | Unusable:
        key, released = release.key, release.unusable
        example, former = self._examples.get(key), self._of(key)
        if example is None or released not in former:  # changed since the entry was made
            return "quarantined"
        usable = released.model_copy(update={"reason": None, "seq": None})
        after = (*(each for each in former if each != released), usable)
        return self._apply(usable, example, example, former, after)

    def _apply(
        self,
        new: Contribution,
        founded: Example,
        before: Example | None,
        former: Contributions,
        after: Contributions,
    ) -> Resolution:
        self._contributions[new.key] = after
        resolved = resolve(after, quorum=self._quorum)
        if resolved is None:
            raise AssertionError("a new contribution is among those to resolve")
        if before is None:
            self._examples[new.key] = settled(founded, resolved)
        else:
            self._settle(before, resolved, former, is_gold=new.is_gold)
        return _resolution(new, before, self._examples[new.key])

    def _settle(self, before: Example, resolved: Resolved, former: Contributions, *, is_gold: bool) -> None:
        """Store the resolved example. Excluded examples need news; gold that waits needs gold."""
        waits = before.is_gold and before.is_waiting
        if is_excluded(before) and not is_gold and (waits or not is_news(before, resolved, former)):
            return
        self._examples[before.key] = settled(before, resolved)

    def _of(self, key: str) -> Contributions:
        """The contributions to a text. A stored example without any is its own contribution."""
        if key in self._contributions:
            return self._contributions[key]
        example = self._stored.get(key)
        if example is None or example.reason in (NO_CONSENT, WITHDRAWN):
            return ()
        usable = {"reason": None} if example.state != "quarantined" or is_excluded(example) else {}
        return (_contribution(example, example.created_at).model_copy(update=usable),)

    @property
    def examples(self) -> Mapping[str, Example]:
        """The resolved and the other stored examples, by key."""
        return self._examples

    def changes(self) -> list[Example]:
        """The examples that are new or have changed."""
        return [example for key, example in self._examples.items() if example != self._stored.get(key)]

    def contributions(self) -> Mapping[str, Contributions]:
        """The contributions to the texts that have changed, by key."""
        stored = self._stored_contributions
        return {key: each for key, each in self._contributions.items() if each != stored.get(key)}

    def added(self) -> list[Contribution]:
        """The contributions to store."""
        changed = self.contributions().values()
        return [each for several in changed for each in several if each.seq is None]

    def replaced(self) -> list[int]:
        """The `seq` of the stored contributions to delete."""
        changed = self.contributions()
        kept = {each.seq for several in changed.values() for each in several}
        stored = (each.seq for key in changed for each in self._stored_contributions.get(key, ()))
        return [seq for seq in stored if seq is not None and seq not in kept]


def _resolution(new: Contribution, before: Example | None, after: Example) -> Resolution:
    if after.state == "quarantined" or new.reason is not None:
        return "quarantined"
    if after.state == "conflict" or disputed(after, new) or _is_undecided(new, after):
        return "conflicts"
    if before is None or before.state in ("conflict", "quarantined") or disputed(before, new):
        return "accepted"
    return "merged"


def _is_undecided(new: Contribution, after: Example) -> bool:
    """Whether feedback lacks one of the contributed labels. Feedback adds no task to gold."""
    return not after.is_gold and not set(new.tasks) <= set(after.tasks)


def _joined(former: Contributions, new: Contribution) -> Contributions:
    """The contributions with a new one. It replaces that of the same turn, or older gold without a turn."""
    return _limited((*(each for each in former if not _is_replaced(each, new)), new))


def _is_replaced(former: Contribution, new: Contribution) -> bool:
    if former.is_gold != new.is_gold:
        return False
    if former.turn_id is not None:
        return former.turn_id == new.turn_id
    return former.is_gold and former.person == new.person and set(former.tasks) <= set(new.tasks)


def _limited(several: Contributions) -> Contributions:
    """At most MAX_PER_TEXT contributions: a person's superseded ones go first, then the oldest feedback."""
    if len(several) <= MAX_PER_TEXT:
        return several
    newest = {each.person: at for at, each in enumerate(several) if each.person is not None}

    def expendable(at: int) -> tuple[bool, bool, int]:
        each = several[at]
        return each.is_gold, each.person is None or newest[each.person] == at, at

    surplus = sorted(range(len(several)), key=expendable)[: len(several) - MAX_PER_TEXT]
    return tuple(each for at, each in enumerate(several) if at not in surplus)


def _without_discarded_gold(before: Example | None, former: Contributions) -> Contributions:
    """The contributions without gold that a person has discarded."""
    if before is None or before.reason != DISCARDED:
        return former
    return tuple(each for each in former if not each.is_gold)


def _contribution(example: Example, occurred_at: datetime) -> Contribution:
    """The contribution with the values of an example, which are valid."""
    values = {name: getattr(example, name) for name in _SAME_NAME}
    return Contribution.model_construct(**values, occurred_at=occurred_at)
