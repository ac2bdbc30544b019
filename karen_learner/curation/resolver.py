"""Resolution of the annotations of one text: agreement, replacement and conflict.

The rule, first match first:

1.  The first annotation of a text becomes its example.
2.  An annotation that cannot be learned is quarantined. It changes no usable example, and of those that wait
    because of a rollback only the example of its own turn.
3.  A quarantined example is replaced by the next annotation. If its reason is in NEEDS_NEWS, the next
    annotation must come from another user, have other labels, or be gold. Feedback does not change gold that
    waits because of a rollback.
4.  Gold replaces feedback. Of two gold annotations that differ, the newer wins, label by label.
5.  Feedback does not change gold.
6.  A user's newer annotation replaces the older one (a rating does not replace a correction).
7.  An annotation that disputes no label of the example is merged into it.
8.  The first annotation that disputes a label becomes the dissent.
9.  A user's newer annotation replaces that user's dissent.
10. An annotation that disputes no label of the dissent is merged into it.
11. A third annotation is dropped.

After 6 to 10, example and dissent are compared. The annotation with more users wins; then a correction wins
over a rating; then a quality higher by 0.1. Otherwise both are in `conflict` until a further user agrees with
one of them.

The dissent is stored as a separate example in state `conflict`, so that users of later pages can confirm it.
A learned example whose labels change is `pending` again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from karen_learner.curation.annotations import (
    agreed,
    annotated,
    disputed,
    overlaid,
    same_labels,
    same_user,
    updated,
)
from karen_learner.curation.examples import Unusable, example_id, text_key
from karen_learner.records import DISCARDED, ROLLED_BACK, Contribution, Example, ExampleState

Resolution = Literal["accepted", "merged", "conflicts", "quarantined"]
"""`accepted`: a new text, or a label that wins now. `merged`: agrees with the example. `conflicts`:
disputes the example and does not win. `quarantined`: cannot be learned."""

NEEDS_NEWS = ("harmful", ROLLED_BACK, DISCARDED)
"""Reasons of quarantine that the same labels of the same user do not end."""
CLEARLY_BETTER = 0.1
ROUNDING = 1e-9
DISSENT_SUFFIX = "~"


def dissent_key(key: str) -> str:
    """The key of the dissent of the example with `key`."""
    return key + DISSENT_SUFFIX


@dataclass(frozen=True)
class LabelState:
    """The example of one text and its dissent, as stored."""

    example: Example
    dissent: Example | None = None

    @property
    def open_dissent(self) -> Example | None:
        """The dissent, unless it is closed or quarantined."""
        return self.dissent if self.dissent is not None and self.dissent.state == "conflict" else None


def resolve(state: LabelState | None, annotation: Example) -> tuple[LabelState, Resolution]:
    """Apply the rule of this module to a new annotation: gold, or feedback of one user."""
    if state is None:  # 1
        return LabelState(annotation), "quarantined" if annotation.state == "quarantined" else "accepted"
    example, dissent = state.example, state.open_dissent
    if annotation.state == "quarantined":  # 2
        return _with_quarantined(state, annotation), "quarantined"
    if example.state == "quarantined":  # 3
        return _in_place_of_quarantined(state, annotation)
    if annotation.is_gold:  # 4
        return _with_gold(state, annotation)
    if example.is_gold:  # 5
        return state, "conflicts" if disputed(example, annotation) else "merged"
    if same_user(example, annotation):  # 6
        after = _compared(state, updated(example, annotation), dissent)
    elif not disputed(example, annotation):  # 7
        if dissent is not None and same_user(dissent, annotation):  # this user now agrees with the example
            state, dissent = LabelState(example, closed(dissent)), None
        after = _compared(state, agreed(example, annotation), dissent)
    elif dissent is None:  # 8
        after = _compared(state, example, _new_dissent(state, annotation, "conflict"))
    elif same_user(dissent, annotation):  # 9
        after = _compared(state, example, updated(dissent, annotation))
    elif not disputed(dissent, annotation):  # 10
        after = _compared(state, example, agreed(dissent, annotation))
    else:  # 11
        return state, "conflicts"
    return after, _resolution(example, after.example, annotation)


def _with_quarantined(state: LabelState, annotation: Example) -> LabelState:
    example = state.example
    same_turn = not example.is_gold and example.users == 1 and example.turn_id == annotation.turn_id
    if example.is_waiting and not same_turn:
        return state
    if example.state == "quarantined" or same_turn:
        example = annotated(example, annotation, state="quarantined", reason=annotation.reason)
        return LabelState(example, state.dissent)
    if state.open_dissent is not None:
        return state
    return LabelState(example, _new_dissent(state, annotation, "quarantined", annotation.reason))


def _in_place_of_quarantined(state: LabelState, annotation: Example) -> tuple[LabelState, Resolution]:
    example, users = state.example, annotation.users
    if example.is_waiting and example.is_gold and not annotation.is_gold:
        return state, "quarantined"
    if example.reason in NEEDS_NEWS and same_labels(example, annotation) and not annotation.is_gold:
        if same_user(example, annotation):
            return state, "quarantined"
        users = agreed(example, annotation).users
    example = annotated(example, annotation, users=users, state="pending", reason=None, rejections=0)
    return LabelState(example, state.dissent), "accepted"


def _with_gold(state: LabelState, gold: Example) -> tuple[LabelState, Resolution]:
    example, dissent = state.example, state.open_dissent
    if not example.is_gold:
        winner = gold
    elif disputed(example, gold):
        winner = overlaid(example, gold, source=gold.source)
    else:
        winner = example if set(gold.tasks) <= set(example.tasks) else overlaid(example, gold)
    resolution: Resolution = "accepted" if disputed(example, gold) else "merged"
    return LabelState(_relabelled(example, winner), closed(dissent) if dissent else state.dissent), resolution


def _compared(state: LabelState, side: Example, dissent: Example | None) -> LabelState:
    """The state after the side of the example is compared with the dissent."""
    example = state.example
    if dissent is None:
        return LabelState(_relabelled(example, side), state.dissent)
    if not disputed(side, dissent):
        return LabelState(_relabelled(example, agreed(side, dissent)), closed(dissent))
    winner = _winner(side, dissent)
    if winner is None:
        changes = {"state": "conflict", "reason": f"{_described(side)} against {_described(dissent)}"}
        return LabelState(annotated(example, side, **changes), dissent.model_copy(update=changes))
    loser = dissent if winner is side else side
    reason = f"{_described(loser)} outvoted by {_described(winner)}"
    return LabelState(
        _relabelled(example, winner), annotated(dissent, loser, state="conflict", reason=reason)
    )


def _winner(one: Example, other: Example) -> Example | None:
    if one.users != other.users:
        return one if one.users > other.users else other
    if one.source != other.source:
        return one if one.source == "correction" else other
    if abs(one.quality - other.quality) >= CLEARLY_BETTER - ROUNDING:
        return one if one.quality > other.quality else other
    return None


def _resolution(before: Example, after: Example, annotation: Example) -> Resolution:
    if after.state == "conflict" or disputed(after, annotation):
        return "conflicts"
    return "accepted" if before.state == "conflict" or disputed(before, annotation) else "merged"


def _relabelled(example: Example, annotation: Example) -> Example:
    """The example with the annotation: `pending`, unless its labels stay the same."""
    if same_labels(example, annotation) and example.state != "conflict":
        return annotated(example, annotation)
    return annotated(example, annotation, state="pending", reason=None, rejections=0)


def _new_dissent(
    state: LabelState, annotation: Example, new_state: ExampleState, reason: str | None = None
) -> Example:
    example = state.example
    dissent = state.dissent or annotation.model_copy(
        update={"example_id": example.example_id + DISSENT_SUFFIX, "key": dissent_key(example.key)}
    )
    return annotated(dissent, annotation, split=example.split, rejections=0, state=new_state, reason=reason)


def closed(dissent: Example) -> Example:
    """The dissent in its final state: it has no effect on the example."""
    return dissent.model_copy(update={"state": "quarantined", "reason": "resolved"})


def _described(annotation: Example) -> str:
    labels = [f"{task} {_described_label(annotation, task)}" for task in annotation.tasks]
    return f"{', '.join(labels)} ({annotation.users} {'user' if annotation.users == 1 else 'users'})"


def _described_label(annotation: Example, task: str) -> str:
    if task != "entities":
        return repr(getattr(annotation, task))
    return "[" + ", ".join(f"{s.label} {s.start}-{s.end}" for s in annotation.entities or ()) + "]"


def withdraw(state: LabelState, turn_id: str) -> LabelState:
    """The state without the annotation that was made from the rating of a turn.

    An open dissent becomes the example; without one, the example is quarantined.
    """
    example, dissent = state.example, state.open_dissent
    if dissent is not None and _is_rating_of(dissent, turn_id):
        return LabelState(_relabelled(example, example), closed(dissent))
    if not _is_rating_of(example, turn_id):
        return state
    if dissent is not None:
        return LabelState(_relabelled(example, dissent), closed(dissent))
    quarantined = example.model_copy(update={"state": "quarantined", "reason": "withdrawn"})
    return LabelState(quarantined, state.dissent)


def _is_rating_of(annotation: Example, turn_id: str) -> bool:
    return annotation.turn_id == turn_id and annotation.users == 1 and annotation.source == "rating"


@dataclass(frozen=True)
class Withdrawal:
    """A turn whose newest feedback gives no usable label: its earlier rating is withdrawn."""

    key: str
    turn_id: str
    reason: Unusable


@dataclass(frozen=True)
class Release:
    """A quarantined example, or dissent, whose labels have become usable."""

    quarantined: Example

    @property
    def key(self) -> str:
        return text_key(self.quarantined.text)

    def annotation(self) -> Example:
        """The annotation of one user, as if its turn were read now."""
        return self.quarantined.model_copy(
            update={
                "key": self.key,
                "example_id": example_id(key=self.key, turn_id=self.quarantined.turn_id),
                "state": "pending",
                "reason": None,
                "users": 1,
                "seq": None,
            }
        )


PageEntry = Example | Withdrawal | Release


def stored_keys(entries: Iterable[PageEntry]) -> list[str]:
    """The keys of the examples and dissents that the entries may change."""
    keys = sorted({entry.key for entry in entries})
    return keys + [dissent_key(key) for key in keys]


class LabelResolver:
    """Resolves the entries of one page in order, over the `stored` examples by key."""

    def __init__(self, stored: Mapping[str, Example]) -> None:
        self._stored = stored
        self._examples = dict(stored)

    def resolve_all(self, entries: Sequence[PageEntry]) -> list[Resolution | Unusable]:
        """The resolution of each entry."""
        return [self.resolve(entry) for entry in entries]

    def resolve(self, entry: PageEntry) -> Resolution | Unusable:
        state = self._state(entry.key)
        if isinstance(entry, Withdrawal):
            if state is not None:
                self._put(withdraw(state, entry.turn_id))
            return entry.reason
        if isinstance(entry, Release):
            return self._release(entry)
        after, resolution = resolve(state, entry)
        self._put(after)
        return resolution

    def _release(self, release: Release) -> Resolution | Unusable:
        quarantined = release.quarantined
        if self._stored.get(quarantined.key) != quarantined:  # changed since the entry was made
            return "quarantined"
        self._examples[quarantined.key] = closed(quarantined)
        return self.resolve(release.annotation())

    def _state(self, key: str) -> LabelState | None:
        example = self._examples.get(key)
        return None if example is None else LabelState(example, self._examples.get(dissent_key(key)))

    def _put(self, state: LabelState) -> None:
        self._examples[state.example.key] = state.example
        if state.dissent is not None:
            self._examples[state.dissent.key] = state.dissent

    def changes(self) -> list[Example]:
        """The examples that are new or have changed."""
        return [example for key, example in self._examples.items() if example != self._stored.get(key)]


def contributions_of(
    entries: Iterable[PageEntry], stored: Mapping[str, Sequence[Contribution]]
) -> tuple[list[Contribution], list[int]]:
    """The contributions of a page, and the `seq` of the `stored` ones (by key) that they replace.

    An entry of a turn replaces the contribution from that turn.
    """
    said = [entry for entry in entries if not isinstance(entry, Release)]
    new = {entry.turn_id or entry.key: entry for entry in said}
    replaced = [
        each.seq
        for entry in said
        for each in stored.get(entry.key, ())
        if each.seq is not None and each.turn_id == entry.turn_id
    ]
    added = [contribution(entry) for entry in new.values() if isinstance(entry, Example)]
    return added, list(dict.fromkeys(replaced))


def contribution(entry: Example) -> Contribution:
    """The contribution of one person or file, from its example."""
    values = {name: getattr(entry, name) for name in Contribution.model_fields if name in entry}
    return Contribution(**values)
