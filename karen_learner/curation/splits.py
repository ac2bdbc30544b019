"""Stratified splits of new examples: drawn once, stored, and shared by near-duplicates."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from asyncio_extras import call_in_executor

from karen_learner.contracts import MemoryStore
from karen_learner.curation.examples import draw
from karen_learner.curation.selection import USABLE, Strata, water_fill
from karen_learner.records import Example, Split
from karen_learner.settings import Settings

KEPT_FOR_TRAINING = 2
LARGE_ENOUGH_FOR_HOLDOUT = 4


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Shares of strata that replace those of the settings: they spread a capped split over all strata."""

    holdout: Mapping[str, float] = field(default_factory=dict)
    dev: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """Shares and limits of splits. `holdout_capacity`, `dev_capacity`: maximum number of further examples."""

    holdout_capacity: int
    dev_capacity: int
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
    """Shares that fill the capacity evenly with gold examples, if it is too small for the usual shares."""
    left = {stratum: count - _quota(count, rules.validation_split) for stratum, count in gold.items()}
    return Shares(
        holdout=_fitting(gold, rules.validation_split, rules.holdout_capacity),
        dev=_fitting(left, rules.dev_share, rules.dev_capacity),
    )


def _fitting(counts: Strata, share: float, capacity: int) -> dict[str, float]:
    wanted = {stratum: _rounded(count * share) for stratum, count in counts.items()}
    if sum(wanted.values()) <= capacity:
        return {}
    places = water_fill(wanted, capacity)
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

    Holdout: `rules.holdout_share` of each stratum, from those that `may_be_held_out`, and at least one of
    four gold examples. At least two examples of a stratum remain for training. The strata share the capacity.
    Dev: `dev_share` of the rest, under the same limits. Train: all others.
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

    Positions in a stratum continue from page to page. So the shares of a stream do not depend on its pages.
    A position on a group that may not be held out is skipped.
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
        return self._taken(hits, self._rules.holdout_capacity)

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
        return self._taken(hits, self._rules.dev_capacity)

    def _dev_hits(self, stratum: str) -> Iterator[_Group]:
        share = self._rules.dev_share_of(stratum)
        start = self._count("train", stratum) + self._count("dev", stratum)
        for position, group in enumerate(self._strata[stratum], start):
            if _rounded((position + 1) * share) > _rounded(position * share) and group.is_pending():
                yield group

    def _taken(self, hits: Mapping[str, Iterator[_Group]], capacity: int) -> list[str]:
        """The groups that fit into the capacity: one of each stratum in turn, and never the last two for
        training."""
        chosen: list[str] = []
        for group in _round_robin(hits):
            fits = group.size <= capacity
            if fits and self._trainable[group.stratum] - group.size >= KEPT_FOR_TRAINING:
                capacity -= group.size
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


# Against the store ---------------------------------------------------------------------------


async def shares_for(store: MemoryStore, tenant_id: str, gold: Strata, settings: Settings) -> Shares:
    """Shares that spread gold examples over the remaining capacity (see `spread_shares`)."""
    return spread_shares(gold, _rules(settings, await _usable_strata(store, tenant_id)))


async def with_splits(
    store: MemoryStore,
    tenant_id: str,
    new: Sequence[Example],
    changed: Sequence[Example],
    settings: Settings,
    shares: Shares | None = None,
) -> tuple[list[Example], Mapping[str, Split | None]]:
    """The new and changed examples with their splits, and the former splits of the groups of new ones."""
    if not new and not changed:
        return [], {}
    stored = await _usable_strata(store, tenant_id)
    rules = replace(_rules(settings, stored), shares=shares or Shares())
    moved = _agreed_in_dev(changed, rules.holdout_capacity)
    rules = replace(rules, holdout_capacity=rules.holdout_capacity - len(moved))
    groups = sorted({example.group for example in new})
    before = await store.splits_by_group(tenant_id, groups) if groups else {}
    existing: dict[str, Split] = {**before, **dict.fromkeys(moved, "holdout")}
    kept = [
        example.model_copy(update={"split": "holdout"}) if example.group in moved else example
        for example in changed
    ]
    placed = await call_in_executor(lambda: assign_splits(new, existing=existing, stored=stored, rules=rules))
    return kept + placed, {group: before.get(group) for group in groups}


def _agreed_in_dev(changed: Iterable[Example], capacity: int) -> set[str]:
    """Groups of the split `dev` with feedback that several users agree on now, up to `capacity`.

    They move to the holdout: no model was trained on them.
    """
    agreed = (
        example.group
        for example in changed
        if example.split == "dev" and not example.is_gold and may_be_held_out(example)
    )
    return set(islice(dict.fromkeys(agreed), capacity))


async def _usable_strata(store: MemoryStore, tenant_id: str) -> dict[Split, Strata]:
    """The number of usable examples of each stratum, by split; from counters."""
    usable: dict[Split, Counter[str]] = {"train": Counter(), "dev": Counter(), "holdout": Counter()}
    for split, counts in usable.items():
        for state in USABLE:
            counts.update(await store.strata(tenant_id, state=state, split=split))
    return dict(usable)


def _rules(settings: Settings, stored: Mapping[Split, Strata]) -> SplitRules:
    learning, training = settings.learning, settings.training
    return SplitRules(
        holdout_capacity=max(0, learning.holdout_cap - sum(stored["holdout"].values())),
        dev_capacity=max(0, learning.dev_cap - sum(stored["dev"].values())),
        validation_split=training.validation_split,
        dev_share=learning.dev_share,
        seed=training.seed,
    )
