"""Duplicates and conflicts: what becomes of the examples of one text when a further word on it comes in.

The rule, first match first:

1.  Gold is not changed by feedback. Gold takes the place of feedback; of two golds that differ, the
    newer wins, label by label.
2.  One user's newer word replaces the older one (a rating does not replace the user's own correction).
3.  A word that does not dispute the example agrees with it (see `words.agreed`).
4.  Otherwise there are two sides. More users win; with equally many, a correction wins over a rating,
    then a quality higher by 0.1. Else it is a `conflict`: both sides are set aside until a further user
    agrees with one. Of two sides a third opinion is not kept.

The side that lost, or is in conflict, is remembered on a second row, the rival, in state `conflict`: so
a majority can form over many pages of curation. A learned example whose labels change is `pending`
again. A quarantined example has no say: the next word takes its place; where it was quarantined as
harmful, somebody else, another label or gold is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from karen_learner.curation.annotations import (
    agreed,
    disputed,
    on_row,
    overlaid,
    restated,
    same_labels,
    same_voter,
)
from karen_learner.records import Example

Fate = Literal["accepted", "merged", "conflicts", "quarantined"]
"""`accepted`: a new text, or a label that now wins. `merged`: agrees with what is known. `conflicts`:
speaks against it and does not win. `quarantined`: cannot be learned."""

CLEARLY_BETTER = 0.1
ROUNDING = 1e-9
RIVAL_SUFFIX = "~"


def rival_key(key: str) -> str:
    """The key of the row that remembers what speaks against the example with `key`."""
    return key + RIVAL_SUFFIX


@dataclass(frozen=True)
class Standing:
    """What is known of one text: the example, and the row of the word that speaks against it."""

    main: Example
    rival: Example | None = None

    @property
    def live_rival(self) -> Example | None:
        return self.rival if self.rival is not None and self.rival.state == "conflict" else None


def receive(standing: Standing | None, newcomer: Example) -> tuple[Standing, Fate]:
    """Apply the rule of this module to one newcomer, which stands for one user or is gold."""
    if standing is None:
        return Standing(newcomer), "quarantined" if newcomer.state == "quarantined" else "accepted"
    if newcomer.state == "quarantined":
        return _set_aside(standing, newcomer), "quarantined"
    if standing.main.state == "quarantined":
        return _in_place_of_quarantined(standing, newcomer)
    if newcomer.is_gold:
        return _with_gold(standing, newcomer)
    if standing.main.is_gold:
        return standing, "conflicts" if disputed(standing.main, newcomer) else "merged"
    return _heard(standing, newcomer)


def _set_aside(standing: Standing, newcomer: Example) -> Standing:
    main = standing.main
    same_turn = not main.is_gold and main.users == 1 and main.turn_id == newcomer.turn_id
    if main.state == "quarantined" or same_turn:
        main = on_row(main, newcomer, state="quarantined", reason=newcomer.reason)
        return Standing(main, standing.rival)
    if standing.live_rival is not None:
        return standing
    return Standing(main, _rival_row(standing, newcomer, state="quarantined", reason=newcomer.reason))


def _in_place_of_quarantined(standing: Standing, newcomer: Example) -> tuple[Standing, Fate]:
    main, users = standing.main, newcomer.users
    if main.reason == "harmful" and same_labels(main, newcomer) and not newcomer.is_gold:
        if same_voter(main, newcomer):
            return standing, "quarantined"
        users = agreed(main, newcomer).users
    main = on_row(main, newcomer, users=users, state="pending", reason=None, rejections=0)
    return Standing(main, standing.rival), "accepted"


def _with_gold(standing: Standing, gold: Example) -> tuple[Standing, Fate]:
    main, rival = standing.main, standing.live_rival
    if not main.is_gold:
        word = gold
    elif disputed(main, gold):
        word = overlaid(main, gold, source=gold.source)
    else:
        word = main if set(gold.tasks) <= set(main.tasks) else overlaid(main, gold)
    fate: Fate = "accepted" if disputed(main, gold) else "merged"
    return Standing(_changed(main, word), _dead(rival) if rival else standing.rival), fate


def _changed(main: Example, word: Example) -> Example:
    """The row with a word on it that is to be learned, unless it was learned with these labels."""
    if same_labels(main, word) and main.state != "conflict":
        return on_row(main, word)
    return on_row(main, word, state="pending", reason=None, rejections=0)


def _heard(standing: Standing, newcomer: Example) -> tuple[Standing, Fate]:
    main, rival = standing.main, standing.live_rival
    if same_voter(main, newcomer):
        after = _settled(standing, restated(main, newcomer), rival)
    elif not disputed(main, newcomer):
        turncoat = rival is not None and same_voter(rival, newcomer)
        standing = Standing(main, _dead(rival)) if rival and turncoat else standing
        after = _settled(standing, agreed(main, newcomer), None if turncoat else rival)
    elif rival is None:
        after = _settled(standing, main, _rival_row(standing, newcomer, state="conflict", reason=None))
    elif same_voter(rival, newcomer):
        after = _settled(standing, main, restated(rival, newcomer))
    elif not disputed(rival, newcomer):
        after = _settled(standing, main, agreed(rival, newcomer))
    else:
        return standing, "conflicts"
    return after, _fate(standing.main, after.main, newcomer)


def _fate(before: Example, after: Example, newcomer: Example) -> Fate:
    if after.state == "conflict" or disputed(after, newcomer):
        return "conflicts"
    return "accepted" if before.state == "conflict" or disputed(before, newcomer) else "merged"


def _settled(standing: Standing, word: Example, rival: Example | None) -> Standing:
    """The two sides after one has been heard. `word` is the example's side, as it is now."""
    before = standing.main
    if rival is None:
        return Standing(_changed(before, word), standing.rival)
    if not disputed(word, rival):
        return Standing(_changed(before, agreed(word, rival)), _dead(rival))
    winner = _winner(word, rival)
    if winner is None:
        reason = f"{_says(word)} against {_says(rival)}"
        sides = (on_row(before, word), rival)
        return Standing(*(side.model_copy(update={"state": "conflict", "reason": reason}) for side in sides))
    loser = rival if winner is word else word
    reason = f"{_says(loser)} outvoted by {_says(winner)}"
    return Standing(_changed(before, winner), on_row(rival, loser, state="conflict", reason=reason))


def _winner(one: Example, other: Example) -> Example | None:
    if one.users != other.users:
        return one if one.users > other.users else other
    if one.source != other.source:
        return one if one.source == "correction" else other
    if abs(one.quality - other.quality) >= CLEARLY_BETTER - ROUNDING:
        return one if one.quality > other.quality else other
    return None


def _says(word: Example) -> str:
    labels = [f"{task} {_told(word, task)}" for task in word.tasks]
    return f"{', '.join(labels)} ({word.users} {'user' if word.users == 1 else 'users'})"


def _told(word: Example, task: str) -> str:
    if task != "entities":
        return repr(getattr(word, task))
    return "[" + ", ".join(f"{s.label} {s.start}-{s.end}" for s in word.entities or ()) + "]"


def _rival_row(standing: Standing, word: Example, **changes: object) -> Example:
    main = standing.main
    row = standing.rival or word.model_copy(
        update={"example_id": main.example_id + RIVAL_SUFFIX, "key": rival_key(main.key)}
    )
    return on_row(row, word, split=main.split, rejections=0, **changes)


def _dead(rival: Example) -> Example:
    return rival.model_copy(update={"state": "quarantined", "reason": "settled"})


def withdrawn(standing: Standing, turn_id: str) -> Standing:
    """What is left when a turn that was learned from by its rating turns out to say nothing (it was
    rated anew): its word is taken back, and the other side, if there is one, stands alone."""
    main, rival = standing.main, standing.live_rival
    if rival is not None and _rests_on(rival, turn_id):
        return Standing(_changed(main, main), _dead(rival))
    if not _rests_on(main, turn_id):
        return standing
    if rival is not None:
        return Standing(_changed(main, rival), _dead(rival))
    return Standing(main.model_copy(update={"state": "quarantined", "reason": "withdrawn"}), standing.rival)


def _rests_on(word: Example, turn_id: str) -> bool:
    return word.turn_id == turn_id and word.users == 1 and word.source == "rating"


class Ledger:
    """The standings of the texts of one page, and which rows have changed.

    `stored` maps keys, those of rivals among them, to the examples as they are in the store.
    """

    def __init__(self, stored: Mapping[str, Example]) -> None:
        self._stored = stored
        self._rows = dict(stored)

    @staticmethod
    def keys(texts: Iterable[str]) -> list[str]:
        """All keys under which rows of texts with these keys may stand."""
        wanted = sorted(set(texts))
        return wanted + [rival_key(key) for key in wanted]

    def receive(self, newcomer: Example) -> Fate:
        standing, fate = receive(self._standing(newcomer.key), newcomer)
        self._put(newcomer.key, standing)
        return fate

    def receive_all(self, newcomers: Iterable[Example]) -> list[Fate]:
        return [self.receive(newcomer) for newcomer in newcomers]

    def withdraw(self, key: str, turn_id: str) -> None:
        standing = self._standing(key)
        if standing is not None:
            self._put(key, withdrawn(standing, turn_id))

    def stores(self, row: Example) -> bool:
        """Whether the store has the row just like this."""
        return self._stored.get(row.key) == row

    def settle(self, row: Example) -> None:
        """A rival's row has been read anew: it has nothing more to say by itself."""
        self._rows[row.key] = _dead(row)

    def _standing(self, key: str) -> Standing | None:
        main = self._rows.get(key)
        return None if main is None else Standing(main, self._rows.get(rival_key(key)))

    def _put(self, key: str, standing: Standing) -> None:
        self._rows[key] = standing.main
        if standing.rival is not None:
            self._rows[rival_key(key)] = standing.rival

    def born(self) -> Iterator[Example]:
        """The rows that the store does not have yet."""
        return (row for key, row in self._rows.items() if key not in self._stored)

    def altered(self) -> Iterator[Example]:
        """The rows that the store has, but not like this."""
        return (row for key, row in self._rows.items() if key in self._stored and row != self._stored[key])
