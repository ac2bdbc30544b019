"""Cross-fitting: the shadows that learn from an example, and the shadow that judges it.

Shadow k is a model that has not learned from a part of the examples. So it can judge them. Each group of
near-duplicates and each person has a home fold: a hash of the name. Shadow k does not learn from

- gold, its near-duplicates, and feedback of more than two people, if the home fold of the group is k;
- gold, and feedback of one or two people, if the home fold of one of the first two people is k.

Feedback is *corroborated* if several people agree on it, and no other labels are given. It counts as feedback
without people, because its label is no opinion of one person. Common sentences would fill all masks.

The mask of a group, or of a person, has bit k if shadow k has learned from it. The masks of its group and of
its people decide: shadow k judges an example only if none has bit k. So the training and the judged texts of
a shadow share no text, no near-duplicate and no person. Home folds never change. Examples that no shadow may
judge are still learned.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from asyncio_extras import call_in_executor

from karen_learner.contracts import MemoryStore
from karen_learner.curation.selection import Curated, draw_learned_gold
from karen_learner.records import UNKNOWN_USER, Example
from karen_learner.settings import Settings

LONG_HISTORY = 30_000
"""Number of examples from which fewer judged texts must suffice, so that the cost of a cycle stays small."""
ENOUGH_JUDGED = 600
"""Number of judged gold texts that suffices for a long history."""
ENOUGH_SHARE = 0.9
"""A further shadow is not trained for the last tenth of the wanted number."""
FEW_PEOPLE = 2
"""Feedback of more people is held out by its group, because shadows would otherwise not learn from it."""
CORROBORATING_PEOPLE = 2
"""Number of people who corroborate a text if they agree. An unknown user does not count."""

People = Mapping[str, tuple[str, ...]]
"""The people of each example, by example id. Examples without people are left out."""


@dataclass(frozen=True, kw_only=True)
class JudgedTexts:
    """Texts that judge: the number of the `shadows` that answers for each, and its `people`."""

    examples: tuple[Example, ...] = ()
    shadows: tuple[int, ...] = ()
    people: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class FoldPlan:
    """The cross-fitting of one cycle.

    `held_out` has bit k for each example, by id, that shadow k does not learn from. `masks` are the masks
    that the training adds. `shadows` is the number of shadows, at most `folds`.
    """

    folds: int
    shadows: int
    held_out: Mapping[str, int]
    masks: Mapping[str, int]
    judged: JudgedTexts


@dataclass(frozen=True, kw_only=True)
class Folds:
    """The rule of this module for `count` folds, the `people` of examples, and the groups with gold."""

    count: int
    people: People
    gold_groups: Collection[str]

    @property
    def every(self) -> int:
        """The mask with a bit for each fold."""
        return (1 << self.count) - 1

    def home(self, name: str) -> int:
        """The home fold of a group or person."""
        digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count

    def held_out(self, example: Example) -> int:
        """The shadows that do not learn from the example, as a mask."""
        people = self.owners(example)
        if example.is_gold or example.group in self.gold_groups or not 1 <= len(people) <= FEW_PEOPLE:
            names: tuple[str, ...] = (example.group,)
            if example.is_gold or len(people) <= FEW_PEOPLE:
                names += people[:FEW_PEOPLE]
        else:
            names = people
        mask = 0
        for name in names:
            mask |= 1 << self.home(name)
        return mask

    def owners(self, example: Example) -> tuple[str, ...]:
        """The people whose opinion the labels are: all of them, but none of a corroborated example."""
        people = self.people.get(example.example_id, ())
        return () if is_corroborated(example, people) else people

    def mask_names(self, example: Example) -> Iterator[str]:
        """The names of the masks of the example: of its group and its owners."""
        yield group_mask(example.group)
        yield from map(person_mask, self.owners(example))

    def masks(self, learned: Iterable[Example]) -> dict[str, int]:
        """The masks after shadows learned from these examples."""
        masks: defaultdict[str, int] = defaultdict(int)
        for example in learned:
            learners = self.every & ~self.held_out(example)
            for name in self.mask_names(example):
                masks[name] |= learners
        return dict(masks)

    def judge(self, example: Example, masks: Mapping[str, int], shadows: int) -> int | None:
        """The shadow of the first `shadows` that may judge the example; None without one.

        A shadow that does not learn from the example comes first.
        """
        seen = 0
        for name in self.mask_names(example):
            seen |= masks.get(name, 0)
        free = ((1 << shadows) - 1) & ~seen
        if not free:
            return None
        preferred = self.held_out(example) & free or free
        return (preferred & -preferred).bit_length() - 1


def is_corroborated(example: Example, people: Collection[str]) -> bool:
    """Whether the example is feedback on which all its `people` agree, and at least CORROBORATING_PEOPLE."""
    known = sum(not person.startswith(UNKNOWN_USER) for person in people)
    return not example.is_gold and example.users >= len(people) and known >= CORROBORATING_PEOPLE


def group_mask(group: str) -> str:
    """The name of the mask of a group."""
    return f"group:{group}"


def person_mask(person: str) -> str:
    """The name of the mask of a person: a digest, because ids of users may be long."""
    return f"person:{hashlib.blake2b(person.encode(errors='surrogatepass'), digest_size=12).hexdigest()}"


def fold_count(validation_share: float) -> int:
    """The number of folds for `training.validation_split`, which is read as 1 / K."""
    return max(2, min(10, round(1.0 / validation_share)))


def shadow_count(folds: int, *, gold: int, history: int, wanted: int) -> int:
    """The fewest shadows that judge nearly the `wanted` gold examples; for a long history ENOUGH_JUDGED."""
    if history >= LONG_HISTORY:
        wanted = min(wanted, ENOUGH_JUDGED)
    return min(folds, max(1, math.ceil(folds * ENOUGH_SHARE * wanted / gold))) if gold else folds


async def plan_folds(
    store: MemoryStore,
    tenant_id: str,
    curated: Curated,
    *,
    settings: Settings,
    former_shadows: int | None = None,
    generation: str | None = None,
    continues: bool = False,
) -> FoldPlan:
    """The cross-fitting of a cycle on the curated examples.

    Only the `former_shadows` of the champion judge (None: it has none), by the masks of their `generation`.
    If the training `continues` them, it has no more shadows.
    """
    count = fold_count(settings.training.validation_split)
    wanted = settings.gate.judged_texts
    counts = await store.counts(tenant_id)
    history = counts.examples.get("learned", 0) + counts.examples.get("pending", 0)
    shadows = shadow_count(count, gold=counts.gold, history=history, wanted=wanted)
    judges = min(shadows, former_shadows or shadows)
    shadows = judges if continues else shadows
    trained = (*curated.new, *curated.replay)
    candidates = await _candidates(store, tenant_id, curated, wanted=wanted * count // judges)
    candidates = await call_in_executor(_judgeable, candidates, count, judges)
    known = {one.example_id: one for one in (*trained, *candidates)}
    folds = await read_folds(store, tenant_id, known, count)
    added: dict[str, int] = await call_in_executor(folds.masks, trained)
    masks = dict(added)
    if generation is not None:
        names = list(dict.fromkeys(name for one in candidates for name in folds.mask_names(one)))
        for name, mask in (await store.masks(tenant_id, generation, names)).items():
            masks[name] = masks.get(name, 0) | mask
    held_out: dict[str, int] = await call_in_executor(
        lambda: {one.example_id: folds.held_out(one) for one in trained}
    )
    judged: JudgedTexts = await call_in_executor(
        lambda: _judged(folds, candidates, masks, shadows=judges, wanted=wanted)
    )
    return FoldPlan(folds=count, shadows=shadows, held_out=held_out, masks=added, judged=judged)


def _judgeable(candidates: Sequence[Example], count: int, shadows: int) -> list[Example]:
    """The candidates without learned gold whose group has another home fold: all these shadows know it."""
    folds = Folds(count=count, people={}, gold_groups=())
    return [
        one
        for one in candidates
        if one.state != "learned" or not one.is_gold or folds.home(one.group) < shadows
    ]


async def read_folds(
    store: MemoryStore, tenant_id: str, examples: Mapping[str, Example], count: int
) -> Folds:
    """The rule with the people and gold groups of these examples."""
    by_key = await store.contributors(tenant_id, list({one.key for one in examples.values()}))
    groups = list({one.group for one in examples.values() if not one.is_gold})
    people = {name: by_key[one.key] for name, one in examples.items() if by_key.get(one.key)}
    return Folds(count=count, people=people, gold_groups=await store.gold_groups(tenant_id, groups))


async def _candidates(store: MemoryStore, tenant_id: str, curated: Curated, *, wanted: int) -> list[Example]:
    """Examples that may judge: those of the training, learned gold, and the newest learned feedback."""
    found = {one.example_id: one for one in (*curated.new, *curated.replay)}
    if curated.importance_weights is not None:  # `replay` is only a sample
        for one in await draw_learned_gold(store, tenant_id, limit=wanted):
            found.setdefault(one.example_id, one)
        newest = 0
        async for one in store.examples(tenant_id, state="learned", gold=False, newest_first=True):
            found.setdefault(one.example_id, one)
            newest += 1
            if newest >= wanted:
                break
    return [one for one in found.values() if one.example_id not in curated.unjudged]


def _judged(
    folds: Folds, candidates: Sequence[Example], masks: Mapping[str, int], *, shadows: int, wanted: int
) -> JudgedTexts:
    """Up to `wanted` gold texts (a fixed random choice), and as many of the newest feedback."""
    judges = {one.example_id: folds.judge(one, masks, shadows) for one in candidates}
    eligible = [one for one in candidates if judges[one.example_id] is not None]
    gold = sorted((one for one in eligible if one.is_gold), key=lambda one: (one.draw, one.example_id))
    feedback = sorted((one for one in eligible if not one.is_gold), key=lambda one: -(one.seq or 0))
    chosen = (*gold[:wanted], *feedback[:wanted])
    return JudgedTexts(
        examples=chosen,
        shadows=tuple(judges[one.example_id] or 0 for one in chosen),
        people=tuple(folds.people.get(one.example_id, ()) for one in chosen),
    )
