"""One page of words on texts against the store: read what stands, hear the words, place what is new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from karen_learner.contracts import MemoryStore
from karen_learner.curation.merge import Ledger
from karen_learner.curation.splits import Shares, SplitRules, Strata, assign_splits, may_be_held_out
from karen_learner.records import CurationWrite, Example, ExampleState, ReadSet, Split
from karen_learner.settings import Settings

T = TypeVar("T")

SPLITS: tuple[Split, ...] = ("train", "dev", "holdout")
USABLE: tuple[ExampleState, ...] = ("pending", "learned")
_HELD_OUT = {"split": "holdout"}


async def settle(
    store: MemoryStore,
    tenant_id: str,
    keys: Iterable[str],
    decide: Callable[[Ledger], T],
    settings: Settings,
    *,
    shares: Shares | None = None,
    curated: Sequence[tuple[int, int]] = (),
    token: int | None = None,
) -> T:
    """Let `decide` enter what is to be said of the texts with these keys, and write what comes of it.

    Whatever was changed meanwhile by others (another process takes in gold beside a cycle) is read and
    decided on anew: `decide` may be called several times, in a thread, each time with a new ledger.
    """
    wanted = Ledger.keys(keys)
    while True:
        found = await store.examples_by_key(tenant_id, wanted) if wanted else {}
        ledger = Ledger(found)
        decided = await asyncio.to_thread(decide, ledger)
        upserts, splits = await placed(store, tenant_id, ledger, settings, shares=shares)
        read_set = ReadSet(examples={key: found.get(key) for key in wanted}, splits=splits)
        outcome = CurationWrite(upserts=upserts, curated=curated, read_set=read_set)
        if await store.save_curation(tenant_id, outcome, token=token):
            return decided


async def usable_strata(store: MemoryStore, tenant_id: str) -> dict[Split, Strata]:
    """How many pending and learned examples each stratum has, by split. From counters."""
    usable: dict[Split, Strata] = {}
    for split in SPLITS:
        total: dict[str, int] = {}
        for state in USABLE:
            for stratum, count in (await store.strata(tenant_id, state=state, split=split)).items():
                total[stratum] = total.get(stratum, 0) + count
        usable[split] = total
    return usable


def split_rules(settings: Settings, stored: Mapping[Split, Strata]) -> SplitRules:
    """The rules of the settings, with the room that is left."""
    learning, training = settings.learning, settings.training
    return SplitRules(
        holdout_room=max(0, learning.holdout_cap - sum(stored["holdout"].values())),
        dev_room=max(0, learning.dev_cap - sum(stored["dev"].values())),
        validation_split=training.validation_split,
        dev_share=learning.dev_share,
        seed=training.seed,
    )


async def placed(
    store: MemoryStore,
    tenant_id: str,
    ledger: Ledger,
    settings: Settings,
    *,
    shares: Shares | None = None,
) -> tuple[list[Example], Mapping[str, Split | None]]:
    """Every row that the page has changed, the new ones in the splits where they belong; and the splits
    that the groups of the new ones had before."""
    born, altered = list(ledger.born()), list(ledger.altered())
    if not born and not altered:
        return [], {}
    stored = await usable_strata(store, tenant_id)
    rules = replace(split_rules(settings, stored), shares=shares or Shares())
    moved = _agreed_in_dev(altered, rules.holdout_room)
    rules = replace(rules, holdout_room=rules.holdout_room - len(moved))
    groups = sorted({example.group for example in born})
    before = await store.splits_by_group(tenant_id, groups) if groups else {}
    existing = dict(before)
    existing.update(dict.fromkeys(moved, "holdout"))
    kept = [
        example.model_copy(update=_HELD_OUT) if example.group in moved else example for example in altered
    ]
    new = await asyncio.to_thread(assign_splits, born, existing=existing, stored=stored, rules=rules)
    return kept + new, {group: before.get(group) for group in groups}


def _agreed_in_dev(altered: Iterable[Example], room: int) -> set[str]:
    """Groups of the development split with feedback on which several users have come to agree, as many
    as there is room for: they are held out from now on, since nothing of them was ever trained on."""
    agreed = (
        example.group
        for example in altered
        if example.split == "dev" and not example.is_gold and may_be_held_out(example)
    )
    return set(islice(dict.fromkeys(agreed), room))
