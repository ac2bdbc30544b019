"""In which split a text lives: drawn once, by label, and the same for all its near-duplicates.

Positions in a stratum are counted through from page to page, so that a stream split page by page gets
the same shares as one split whole (systematic sampling). A position that falls on what may not be held
out is passed over, not made up for: else all that may would be, where it is little.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from karen_learner.curation.balance import water_fill
from karen_learner.curation.keys import draw
from karen_learner.records import Example, Split

KEPT_FOR_TRAINING = 2
LARGE_ENOUGH_FOR_HOLDOUT = 4

Strata = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Shares of some strata that stand in for those of the settings, so that a capped split is spread
    over all strata of a large batch, and not filled by those that come first."""

    holdout: Mapping[str, float] = field(default_factory=dict)
    dev: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """`holdout_room` and `dev_room`: how many examples may still enter."""

    holdout_room: int
    dev_room: int
    validation_split: float
    dev_share: float
    seed: int
    shares: Shares = field(default_factory=Shares)

    def holdout_share(self, stratum: str) -> float:
        return self.shares.holdout.get(stratum, self.validation_split)

    def dev_share_of(self, stratum: str) -> float:
        return self.shares.dev.get(stratum, self.dev_share)


def may_be_held_out(example: Example) -> bool:
    """Gold, or feedback on which several users agree and from which nothing was learned yet."""
    if example.state != "pending" or example.learned_in is not None:
        return False
    return example.is_gold or example.users >= 2


def spread_shares(gold: Strata, rules: SplitRules) -> Shares:
    """The shares by which so many gold examples fill the room evenly, where it is not enough for all."""
    left = {stratum: count - _quota(count, rules.validation_split) for stratum, count in gold.items()}
    return Shares(
        holdout=_fitting(gold, rules.validation_split, rules.holdout_room),
        dev=_fitting(left, rules.dev_share, rules.dev_room),
    )


def _fitting(counts: Strata, share: float, room: int) -> dict[str, float]:
    wanted = {stratum: _rounded(count * share) for stratum, count in counts.items()}
    if sum(wanted.values()) <= room:
        return {}
    places = water_fill(wanted, room)
    return {stratum: min(share, places[stratum] / count) for stratum, count in counts.items() if count}


def assign_splits(
    examples: Sequence[Example],
    *,
    existing: Mapping[str, Split],
    stored: Mapping[Split, Strata],
    rules: SplitRules,
) -> list[Example]:
    """The examples, which are new, with their splits.

    `existing` has the split of every group that is placed already: a group stays where it is. `stored`
    counts the usable examples of each stratum by split, without these.

    Holdout: `rules.holdout_share` of each stratum, of what `may_be_held_out`; at least one where there
    are four gold examples or more; never leaving fewer than two to train on; the room shared between
    strata. Dev: `dev_share` of the rest, under the same limits. Everything else is for training.
    """
    placed: dict[str, Split] = dict(existing)
    page = _Page(examples, placed, stored, rules)
    for name, chosen in (("holdout", page.holdout()), ("dev", page.dev())):
        placed.update(dict.fromkeys(chosen, name))  # type: ignore[arg-type]
    return [example.model_copy(update={"split": placed.get(example.group, "train")}) for example in examples]


@dataclass(frozen=True)
class _Group:
    """New examples that are near-duplicates of each other."""

    name: str
    stratum: str
    members: tuple[Example, ...]

    @property
    def size(self) -> int:
        return len(self.members)


class _Page:
    """The new groups of one page, by stratum, in the order of their draws."""

    def __init__(
        self,
        examples: Iterable[Example],
        placed: Mapping[str, Split],
        stored: Mapping[Split, Strata],
        rules: SplitRules,
    ) -> None:
        self._rules = rules
        self._stored = stored
        self._strata: dict[str, list[_Group]] = defaultdict(list)
        for group in _groups(examples, placed, rules.seed):
            self._strata[group.stratum].append(group)
        self._trainable = {stratum: self._trainable_of(stratum) for stratum in self._strata}

    def _trainable_of(self, stratum: str) -> int:
        new = sum(example.state == "pending" for group in self._strata[stratum] for example in group.members)
        return self._count("train", stratum) + new

    def _count(self, split: Split, stratum: str) -> int:
        return self._stored.get(split, {}).get(stratum, 0)

    def holdout(self) -> list[str]:
        hits = {stratum: self._holdout_hits(stratum) for stratum in sorted(self._strata)}
        return self._taken(hits, self._rules.holdout_room)

    def _holdout_hits(self, stratum: str) -> Iterator[_Group]:
        share = self._rules.holdout_share(stratum)
        held = self._count("holdout", stratum)
        position = held + self._count("train", stratum) + self._count("dev", stratum)
        seen, owed = position, 0
        for group in self._strata[stratum]:
            seen += group.size
            position += 1
            if not all(map(may_be_held_out, group.members)):
                continue
            owed += _quota(position, share) - _quota(position - 1, share)
            overdue = held == 0 and seen >= LARGE_ENOUGH_FOR_HOLDOUT and share > 0.0 and _is_gold(group)
            if owed > 0 or overdue:
                held += group.size
                owed = max(0, owed - 1)
                yield group

    def dev(self) -> list[str]:
        hits = {stratum: self._dev_hits(stratum) for stratum in sorted(self._strata)}
        return self._taken(hits, self._rules.dev_room)

    def _dev_hits(self, stratum: str) -> Iterator[_Group]:
        share = self._rules.dev_share_of(stratum)
        position = self._count("train", stratum) + self._count("dev", stratum)
        for group in self._strata[stratum]:
            if _rounded((position + 1) * share) > _rounded(position * share) and _is_usable(group):
                yield group
            position += 1

    def _taken(self, hits: Mapping[str, Iterator[_Group]], room: int) -> list[str]:
        """The groups that find room: one of each stratum in turn, and never the last two to train on."""
        chosen: list[str] = []
        for group in _in_turn(hits):
            fits = group.size <= room
            if fits and self._trainable[group.stratum] - group.size >= KEPT_FOR_TRAINING:
                room -= group.size
                self._trainable[group.stratum] -= group.size
                self._strata[group.stratum].remove(group)
                chosen.append(group.name)
        return chosen


def _groups(examples: Iterable[Example], placed: Mapping[str, Split], seed: int) -> list[_Group]:
    members: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.group not in placed:
            members[example.group].append(example)
    order = sorted(members, key=lambda name: (draw(name, seed), name))
    return [_group(name, members[name]) for name in order]


def _group(name: str, members: Sequence[Example]) -> _Group:
    first = min(members, key=lambda example: (example.draw, example.example_id))
    return _Group(name, first.stratum, tuple(members))


def _is_gold(group: _Group) -> bool:
    return all(example.is_gold for example in group.members)


def _is_usable(group: _Group) -> bool:
    return all(example.state == "pending" for example in group.members)


def _in_turn(hits: Mapping[str, Iterable[_Group]]) -> Iterator[_Group]:
    waiting = [list(groups) for groups in hits.values()]
    for turn in range(max(map(len, waiting), default=0)):
        yield from (groups[turn] for groups in waiting if turn < len(groups))


def _quota(count: int, share: float) -> int:
    """How many of so many examples are to be held out. Never sinks as the count grows."""
    if share <= 0.0 or count < LARGE_ENOUGH_FOR_HOLDOUT:
        return 0
    return max(1, _rounded(count * share))


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)
