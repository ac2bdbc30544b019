"""Stratified splits of new examples: drawn once, stored, and shared by near-duplicates."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, zip_longest
from typing import NamedTuple, get_args

from asyncio_extras import call_in_executor

from karen_learner.contracts import MemoryStore
from karen_learner.curation.examples import draw
from karen_learner.curation.selection import USABLE, Strata, water_fill
from karen_learner.records import Example, Split
from karen_learner.settings import Settings

KEPT_FOR_TRAINING = 2
LARGE_ENOUGH_FOR_HOLDOUT = 4


Shares = Mapping[tuple[Split, str], float]
"""Shares that replace those of the settings. They spread a capped split over all strata."""


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """The share of each split in the settings, and its `capacity`: the maximum number of further examples."""

    usual: Mapping[Split, float]
    capacity: Mapping[Split, int]
    seed: int
    shares: Shares = field(default_factory=dict)

    def share(self, split: Split, stratum: str) -> float:
        return self.shares.get((split, stratum), self.usual[split])


def may_be_held_out(example: Example) -> bool:
    """Whether the example is gold, or feedback of several users, and no model has learned it yet."""
    if example.state != "pending" or example.learned_in is not None:
        return False
    return example.is_gold or example.users >= 2


def spread_shares(gold: Strata, rules: SplitRules) -> Shares:
    """Shares that fill the capacity evenly with gold examples, if it is too small for the usual shares."""
    left = {stratum: count - _quota(count, rules.usual["holdout"]) for stratum, count in gold.items()}
    return {**_fitting("holdout", gold, rules), **_fitting("dev", left, rules)}


def _fitting(split: Split, counts: Strata, rules: SplitRules) -> Shares:
    share, capacity = rules.usual[split], rules.capacity[split]
    wanted = {stratum: _rounded(count * share) for stratum, count in counts.items()}
    if sum(wanted.values()) <= capacity:
        return {}
    places = water_fill(wanted, capacity)
    return {
        (split, stratum): min(share, places[stratum] / count) for stratum, count in counts.items() if count
    }


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

    Holdout: the share of each stratum, from those that `may_be_held_out`, and at least one of four gold
    examples. At least two examples of a stratum remain for training. The strata share the capacity.
    Dev: the share of the rest, under the same limits. Train: all others.
    """
    page = _Page(_groups(examples, existing, rules.seed), stored, rules)
    splits = dict(existing)
    splits |= page.take("holdout", page.holdout_hits)
    splits |= page.take("dev", page.dev_hits)
    return [example.model_copy(update={"split": splits.get(example.group, "train")}) for example in examples]


class _Group(NamedTuple):
    """New examples that are near-duplicates of each other."""

    name: str
    stratum: str
    members: Sequence[Example]


def _groups(examples: Iterable[Example], existing: Mapping[str, Split], seed: int) -> list[_Group]:
    """The new groups in the order of their draws. The first member determines the stratum."""
    members: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda example: (example.draw, example.example_id)):
        if example.group not in existing:
            members[example.group].append(example)
    order = sorted(members, key=lambda name: (draw(name, seed), name))
    return [_Group(name, members[name][0].stratum, members[name]) for name in order]


class _Page:
    """The new groups of one page by stratum (systematic sampling).

    Positions in a stratum continue from page to page. So the shares of a stream do not depend on its pages.
    A position on a group that may not be held out is skipped.
    """

    def __init__(self, groups: Iterable[_Group], stored: Mapping[Split, Strata], rules: SplitRules) -> None:
        self._rules = rules
        self._stored = stored
        self._strata: dict[str, list[_Group]] = defaultdict(list)
        self._trainable = Counter(stored["train"])
        for group in groups:
            self._strata[group.stratum].append(group)
            self._trainable[group.stratum] += sum(example.state == "pending" for example in group.members)

    def _count(self, stratum: str, *splits: Split) -> int:
        return sum(self._stored[split].get(stratum, 0) for split in splits)

    def holdout_hits(self, stratum: str) -> Iterator[_Group]:
        share = self._rules.share("holdout", stratum)
        held = self._count(stratum, "holdout")
        seen = position = self._count(stratum, "holdout", "train", "dev")
        owed = 0
        for group in self._strata[stratum]:
            size = len(group.members)
            seen += size
            position += 1
            if not all(map(may_be_held_out, group.members)):
                continue
            owed += _quota(position, share) - _quota(position - 1, share)
            is_gold = all(example.is_gold for example in group.members)
            overdue = held == 0 and seen >= LARGE_ENOUGH_FOR_HOLDOUT and share > 0.0 and is_gold
            if owed > 0 or overdue:
                held += size
                owed = max(0, owed - 1)
                yield group

    def dev_hits(self, stratum: str) -> Iterator[_Group]:
        share = self._rules.share("dev", stratum)
        for position, group in enumerate(self._strata[stratum], self._count(stratum, "train", "dev")):
            is_pending = all(example.state == "pending" for example in group.members)
            if is_pending and _rounded((position + 1) * share) > _rounded(position * share):
                yield group

    def take(self, split: Split, hits: Callable[[str], Iterable[_Group]]) -> dict[str, Split]:
        """Take the hits that fit into the capacity, one of each stratum in turn.

        The last two examples of a stratum remain for training.
        """
        capacity = self._rules.capacity[split]
        taken: dict[str, Split] = {}
        in_turn = zip_longest(*[list(hits(stratum)) for stratum in sorted(self._strata)])
        for group in filter(None, chain.from_iterable(in_turn)):
            left = self._trainable[group.stratum] - len(group.members)
            if len(group.members) <= capacity and left >= KEPT_FOR_TRAINING:
                capacity -= len(group.members)
                self._trainable[group.stratum] = left
                self._strata[group.stratum].remove(group)
                taken[group.name] = split
        return taken


def _quota(count: int, share: float) -> int:
    """The number of examples to hold out of `count`. Never decreases with `count`."""
    if share <= 0.0 or count < LARGE_ENOUGH_FOR_HOLDOUT:
        return 0
    return max(1, _rounded(count * share))


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


async def shares_for(store: MemoryStore, tenant_id: str, gold: Strata, settings: Settings) -> Shares:
    """Shares that spread gold examples over the remaining capacity (see `spread_shares`)."""
    return spread_shares(gold, _rules(settings, await _usable_strata(store, tenant_id)))


async def with_splits(
    store: MemoryStore,
    tenant_id: str,
    examples: Sequence[Example],
    settings: Settings,
    *,
    known: Collection[str],
    shares: Shares,
) -> tuple[list[Example], Mapping[str, Split | None]]:
    """The examples with their splits, and the former splits of the groups of new ones.

    An example is new unless its key is `known`.
    """
    if not examples:
        return [], {}
    new = [example for example in examples if example.key not in known]
    changed = [example for example in examples if example.key in known]
    stored = await _usable_strata(store, tenant_id)
    rules = replace(_rules(settings, stored), shares=shares)
    moved = _agreed_in_dev(changed, rules.capacity["holdout"])
    holdout_capacity = rules.capacity["holdout"] - len(moved)
    rules = replace(rules, capacity={**rules.capacity, "holdout": holdout_capacity})
    groups = sorted({example.group for example in new})
    before = await store.splits_by_group(tenant_id, groups)
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
    usable: dict[Split, Strata] = {}
    for split in get_args(Split):
        pending, learned = [await store.strata(tenant_id, state=state, split=split) for state in USABLE]
        usable[split] = Counter(pending) + Counter(learned)
    return usable


def _rules(settings: Settings, stored: Mapping[Split, Strata]) -> SplitRules:
    learning, training = settings.learning, settings.training
    caps: dict[Split, int] = {"holdout": learning.holdout_cap, "dev": learning.dev_cap}
    return SplitRules(
        usual={"holdout": training.validation_split, "dev": learning.dev_share},
        capacity={split: max(0, cap - sum(stored[split].values())) for split, cap in caps.items()},
        seed=training.seed,
    )
