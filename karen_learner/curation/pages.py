"""One page of words on texts against the store: read the standings, hear the words, place what is new."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice

from karen_learner.curation.merge import Ledger
from karen_learner.curation.splits import Shares, SplitRules, Strata, assign_splits, may_be_held_out
from karen_learner.memory.contract import MemoryStore
from karen_learner.records import Example, ExampleState, Split
from karen_learner.settings import Settings

SPLITS: tuple[Split, ...] = ("train", "dev", "holdout")
USABLE: tuple[ExampleState, ...] = ("pending", "learned")
_HELD_OUT = {"split": "holdout"}


async def open_ledger(store: MemoryStore, tenant_id: str, keys: Iterable[str]) -> Ledger:
    """The standings of the texts with these keys."""
    wanted = Ledger.keys(keys)
    return Ledger(await store.examples_by_key(tenant_id, wanted) if wanted else {})


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
) -> list[Example]:
    """Every row that the page has changed, the new ones in the splits where they belong."""
    born, altered = list(ledger.born()), list(ledger.altered())
    if not born and not altered:
        return []
    stored = await usable_strata(store, tenant_id)
    rules = replace(split_rules(settings, stored), shares=shares or Shares())
    moved = _agreed_in_dev(altered, rules.holdout_room)
    rules = replace(rules, holdout_room=rules.holdout_room - len(moved))
    groups = sorted({example.group for example in born})
    existing = dict(await store.splits_by_group(tenant_id, groups) if groups else {})
    existing.update(dict.fromkeys(moved, "holdout"))
    kept = [
        example.model_copy(update=_HELD_OUT) if example.group in moved else example for example in altered
    ]
    return kept + await asyncio.to_thread(assign_splits, born, existing=existing, stored=stored, rules=rules)


def _agreed_in_dev(altered: Iterable[Example], room: int) -> set[str]:
    """Groups of the development split with feedback on which several users have come to agree, as many
    as there is room for: they are held out from now on, since nothing of them was ever trained on."""
    agreed = (
        example.group
        for example in altered
        if example.split == "dev" and not example.is_gold and may_be_held_out(example)
    )
    return set(islice(dict.fromkeys(agreed), room))
