"""Stratified selection: the examples that a cycle trains on, and the splits of new examples.

Strata are labels (see `examples.stratum`). Where the places are fewer than the examples, water-filling shares
them: rare labels get all they need, frequent ones equal parts.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from asyncio_extras import call_in_executor

from karen_learner.contracts import MemoryStore
from karen_learner.curation.examples import draw, group_key, text_key
from karen_learner.records import CurationCounts, Example, ExampleState, Split, Turn
from karen_learner.settings import LearningSettings

Strata = Mapping[str, int]
Rank = tuple[bool, float, int, str]

USABLE: tuple[ExampleState, ...] = ("pending", "learned")
KEPT_FOR_TRAINING = 2
LARGE_ENOUGH_FOR_HOLDOUT = 4
REPLAY_POOL = 3
"""Size of the replay pool in multiples of `replay_examples`. Each pipe samples from it: to compute the loss
of an example costs a tenth of training on it."""


def water_fill(counts: Strata, limit: int, *, order: Sequence[str] | None = None) -> dict[str, int]:
    """Shares of `limit` places: as even as the counts allow, min(limit, total) in all.

    Remaining places go to the first strata in `order` (default: by name).
    """
    names = list(order) if order is not None else sorted(counts)
    waiting = sorted((name for name in names if counts[name] > 0), key=lambda name: counts[name])
    shares, room = dict.fromkeys(names, 0), limit
    while waiting and counts[waiting[0]] <= room // len(waiting):
        name = waiting.pop(0)
        shares[name] = counts[name]
        room -= counts[name]
    if waiting:
        each, over = divmod(room, len(waiting))
        in_order = sorted(waiting, key=names.index)
        shares.update({name: each + (at < over) for at, name in enumerate(in_order)})
    return shares


# What a cycle trains on ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Curated:
    """What curation hands to training: new examples, learned examples for replay, and unlabelled turns.

    With `importance_weights` (one for each example of `replay`), `replay` is a pool to sample from. Without
    them, a cycle trains on all of it. `counts` are those of the curated turns.
    """

    new: tuple[Example, ...] = ()
    replay: tuple[Example, ...] = ()
    importance_weights: tuple[float, ...] | None = None
    unlabelled: tuple[Turn, ...] = ()
    counts: CurationCounts = field(default_factory=CurationCounts)


async def select_full(store: MemoryStore, tenant_id: str, learning: LearningSettings) -> Curated:
    """All examples of the split `train`, balanced above `max_full_examples`."""
    picks = await balanced(in_split(store, tenant_id, "train"), learning.max_full_examples)
    return Curated(
        new=tuple(example for example in picks if example.state == "pending"),
        replay=tuple(example for example in picks if example.state == "learned"),
    )


async def select_incremental(
    store: MemoryStore, tenant_id: str, learning: LearningSettings, rng: random.Random
) -> Curated:
    """Pending examples, a replay pool of learned ones, and unlabelled turns, each up to its setting."""
    pending = store.examples(tenant_id, state="pending", split="train", newest_first=True)
    new = await balanced(pending, learning.max_training_examples)
    drawn = await sample_replay(store, tenant_id, limit=REPLAY_POOL * learning.replay_examples, rng=rng)
    ids = {example.example_id for example in new}
    pool = [one for one in drawn if one.example.example_id not in ids]
    return Curated(
        new=tuple(new),
        replay=tuple(one.example for one in pool),
        importance_weights=tuple(one.importance_weight for one in pool),
        unlabelled=await _unlabelled(store, tenant_id, learning.unlabelled_turns),
    )


async def _unlabelled(store: MemoryStore, tenant_id: str, limit: int) -> tuple[Turn, ...]:
    """The newest turns without feedback, each text once. Without texts that are examples, or
    near-duplicates of an example in `dev` or `holdout`."""
    turns = await store.unlabelled_turns(tenant_id, limit=limit)
    by_key, groups = await call_in_executor(_by_key, turns)
    known = await store.examples_by_key(tenant_id, list(by_key))
    groups = {key: group for key, group in groups.items() if key not in known}
    splits = await store.splits_by_group(tenant_id, sorted(set(groups.values())))
    return tuple(by_key[key] for key, group in groups.items() if splits.get(group, "train") == "train")


def _by_key(turns: Sequence[Turn]) -> tuple[dict[str, Turn], dict[str, str]]:
    """The turns by the keys of their texts, and the near-duplicate group of each key."""
    by_key = {text_key(turn.user_text): turn for turn in turns if turn.user_text}
    return by_key, {key: group_key(turn.user_text or "") for key, turn in by_key.items()}


async def in_split(store: MemoryStore, tenant_id: str, split: Split) -> AsyncIterator[Example]:
    """The pending and learned examples of a split."""
    for state in USABLE:
        async for example in store.examples(tenant_id, state=state, split=split):
            yield example


def rank(example: Example) -> Rank:
    """Order within a stratum: gold first, then higher quality (in tenths), then newer."""
    return (not example.is_gold, -round(example.quality, 1), -(example.seq or 0), example.example_id)


async def balanced(examples: AsyncIterator[Example], limit: int) -> list[Example]:
    """Up to `limit` examples, balanced over strata, the best of each first. Holds a few times `limit` at
    most."""
    selection = BalancedSelection(limit)
    async for example in examples:
        selection.add(example)
    return selection.picks()


class BalancedSelection:
    """Water-filling over a stream. The picks equal those over the whole stream.

    Pruning does not change them: as examples arrive, the share of a stratum only decreases, except by the one
    place of the remainder.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._strata: dict[str, list[Example]] = defaultdict(list)
        self._held = 0

    def add(self, example: Example) -> None:
        self._strata[example.stratum].append(example)
        self._held += 1
        if self._held > 2 * (self._limit + 2 * len(self._strata)):
            self._prune(spare=1)

    def picks(self) -> list[Example]:
        """The selection, by stratum and rank."""
        self._prune(spare=0)
        return [example for name in sorted(self._strata) for example in self._strata[name]]

    def _prune(self, *, spare: int) -> None:
        shares = water_fill({name: len(held) for name, held in self._strata.items()}, self._limit)
        for name, held in self._strata.items():
            held.sort(key=rank)
            del held[shares[name] + spare :]
        self._held = sum(map(len, self._strata.values()))


class Drawn(NamedTuple):
    """A learned example, and the inverse of the probability with which it was drawn."""

    example: Example
    importance_weight: float


async def sample_replay(store: MemoryStore, tenant_id: str, *, limit: int, rng: random.Random) -> list[Drawn]:
    """Up to `limit` learned training examples, balanced over strata (Chrysakis and Moens, 2020).

    One read of counters, and one index read for each stratum: the cost depends on `limit` and the number of
    strata, not on the history. With more strata than places, `rng` chooses the strata.
    """
    counts = await store.strata(tenant_id, state="learned", split="train")
    order = sorted(counts)
    rng.shuffle(order)
    shares = water_fill(counts, limit, order=order)
    drawn: list[Drawn] = []
    for name in sorted(name for name in order if shares[name]):
        sampled = await store.sample_learned(tenant_id, name, limit=shares[name], from_draw=rng.random())
        drawn += [Drawn(example, counts[name] / len(sampled)) for example in sampled]
    return drawn


# Splits --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Shares of strata that replace those of the settings: they spread a capped split over all strata."""

    holdout: Mapping[str, float] = field(default_factory=dict)
    dev: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """Shares and limits of splits. `holdout_room` and `dev_room`: the number of examples that may still
    enter."""

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
    """Whether the example is gold, or feedback of several users, and no model has learned it yet."""
    if example.state != "pending" or example.learned_in is not None:
        return False
    return example.is_gold or example.users >= 2


def spread_shares(gold: Strata, rules: SplitRules) -> Shares:
    """Shares by which the gold examples fill the room evenly, if the room is too small for the usual
    shares."""
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
    """The new examples with their splits.

    `existing` maps groups to their splits: a group never moves. `stored` counts the stored usable examples of
    each stratum by split.

    Holdout: `rules.holdout_share` of each stratum, from those that `may_be_held_out`; at least one of four
    gold examples; at least two remain for training; the strata share the room. Dev: `dev_share` of the
    rest, under the same limits. Everything else: train.
    """
    page = _Page(examples, existing, stored, rules)
    holdout: dict[str, Split] = dict.fromkeys(page.holdout(), "holdout")
    dev: dict[str, Split] = dict.fromkeys(page.dev(), "dev")
    splits = {**existing, **holdout, **dev}
    return [example.model_copy(update={"split": splits.get(example.group, "train")}) for example in examples]


@dataclass(frozen=True)
class _Group:
    """New examples that are near-duplicates of each other."""

    name: str
    stratum: str
    members: tuple[Example, ...]

    @property
    def size(self) -> int:
        return len(self.members)

    def all_may_be_held_out(self) -> bool:
        return all(map(may_be_held_out, self.members))

    def is_gold(self) -> bool:
        return all(example.is_gold for example in self.members)

    def is_pending(self) -> bool:
        return all(example.state == "pending" for example in self.members)


class _Page:
    """The new groups of one page by stratum, in the order of their draws (systematic sampling).

    Positions in a stratum continue from page to page, so that a stream gets the same shares page by page as
    in one piece. A position on a group that may not be held out is passed over.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        existing: Mapping[str, Split],
        stored: Mapping[Split, Strata],
        rules: SplitRules,
    ) -> None:
        self._rules = rules
        self._stored = stored
        self._strata: dict[str, list[_Group]] = defaultdict(list)
        for group in _groups(examples, existing, rules.seed):
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
            if not group.all_may_be_held_out():
                continue
            owed += _quota(position, share) - _quota(position - 1, share)
            overdue = held == 0 and seen >= LARGE_ENOUGH_FOR_HOLDOUT and share > 0.0 and group.is_gold()
            if owed > 0 or overdue:
                held += group.size
                owed = max(0, owed - 1)
                yield group

    def dev(self) -> list[str]:
        hits = {stratum: self._dev_hits(stratum) for stratum in sorted(self._strata)}
        return self._taken(hits, self._rules.dev_room)

    def _dev_hits(self, stratum: str) -> Iterator[_Group]:
        share = self._rules.dev_share_of(stratum)
        start = self._count("train", stratum) + self._count("dev", stratum)
        for position, group in enumerate(self._strata[stratum], start):
            if _rounded((position + 1) * share) > _rounded(position * share) and group.is_pending():
                yield group

    def _taken(self, hits: Mapping[str, Iterator[_Group]], room: int) -> list[str]:
        """The groups that fit into the room: one of each stratum in turn, and never the last two for
        training."""
        chosen: list[str] = []
        for group in _round_robin(hits):
            fits = group.size <= room
            if fits and self._trainable[group.stratum] - group.size >= KEPT_FOR_TRAINING:
                room -= group.size
                self._trainable[group.stratum] -= group.size
                self._strata[group.stratum].remove(group)
                chosen.append(group.name)
        return chosen


def _groups(examples: Iterable[Example], existing: Mapping[str, Split], seed: int) -> list[_Group]:
    members: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.group not in existing:
            members[example.group].append(example)
    order = sorted(members, key=lambda name: (draw(name, seed), name))
    return [_group(name, members[name]) for name in order]


def _group(name: str, members: Sequence[Example]) -> _Group:
    first = min(members, key=lambda example: (example.draw, example.example_id))
    return _Group(name, first.stratum, tuple(members))


def _round_robin(hits: Mapping[str, Iterable[_Group]]) -> Iterator[_Group]:
    waiting = [list(groups) for groups in hits.values()]
    for turn in range(max(map(len, waiting), default=0)):
        yield from (groups[turn] for groups in waiting if turn < len(groups))


def _quota(count: int, share: float) -> int:
    """The number of examples to hold out of `count`. Never decreases with `count`."""
    if share <= 0.0 or count < LARGE_ENOUGH_FOR_HOLDOUT:
        return 0
    return max(1, _rounded(count * share))


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)
