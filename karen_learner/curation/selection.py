"""Stratified selection of the examples that a cycle trains on.

Strata are labels (see `examples.stratum`). If the places are fewer than the examples, water-filling shares
them: rare labels get all they need, frequent ones equal parts.

A sampler gives a priority from a time (seconds since 1970) and a uniform draw of the item (0 to 1). The items
with the highest priorities are used. The setting `learning.sampler` names the one of curation. A package adds
a sampler by an entry point in the group `karen_learner_samplers`: its name, and a `Sampler`.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from karen_learner.concurrency import pages
from karen_learner.contracts import MemoryStore
from karen_learner.records import CurationCounts, Example, ExampleState, Task
from karen_learner.registry import Registry
from karen_learner.resolution import task_labels
from karen_learner.settings import LearningSettings

Sampler = Callable[[float, float], float]
"""The priority of an item of a time, with a uniform draw."""

HALF_LIFE_S = 7 * 86_400.0
"""Age difference that halves the weight of an item in the sampler `exponential`."""
_SMALLEST = 1e-300


def sliding_window(at: float, draw: float) -> float:  # noqa: ARG001 - the form of a sampler
    """The newest items."""
    return at


def uniform(at: float, draw: float) -> float:  # noqa: ARG001 - the form of a sampler
    """Any items, with equal probability."""
    return draw


def exponential(at: float, draw: float) -> float:
    """Items with probabilities that halve every `HALF_LIFE_S` of age, without replacement.

    The highest `log(weight) + Gumbel noise` are such a sample (Kool, van Hoof and Welling, 2019).
    """
    noise = -math.log(-math.log(min(max(draw, _SMALLEST), 1.0 - 1e-16)))
    return at * math.log(2.0) / HALF_LIFE_S + noise


_OWN: dict[str, Sampler] = {
    "sliding_window": sliding_window,
    "uniform": uniform,
    "exponential": exponential,
}
SAMPLERS = Registry("sampler", "karen_learner_samplers", _OWN)


Strata = Mapping[str, int]

USABLE: tuple[ExampleState, ...] = ("pending", "learned")
MIN_PAGE = 1_000
REPLAY_POOL = 3
"""Size of the replay pool in multiples of `replay_examples`. Each pipe samples from it: to compute the loss
of an example costs a tenth of training on it."""


def water_fill(counts: Strata, limit: int, *, order: Sequence[str] | None = None) -> dict[str, int]:
    """Shares of `limit` places: as even as the counts allow, min(limit, total) in all.

    Remaining places go to the first strata in `order` (default: by name).
    """
    names = list(order) if order is not None else sorted(counts)
    waiting = sorted((name for name in names if counts[name] > 0), key=lambda name: counts[name])
    shares, remaining = dict.fromkeys(names, 0), limit
    while waiting and counts[waiting[0]] <= remaining // len(waiting):
        name = waiting.pop(0)
        shares[name] = counts[name]
        remaining -= counts[name]
    if waiting:
        each, over = divmod(remaining, len(waiting))
        in_order = sorted(waiting, key=names.index)
        shares.update({name: each + (at < over) for at, name in enumerate(in_order)})
    return shares


@dataclass(frozen=True, kw_only=True)
class Curated:
    """Result of curation for training: new examples, and learned examples for replay.

    With `importance_weights` (one for each example of `replay`), `replay` is a pool to sample from. Without
    them, a cycle trains on all of it. `counts` are those of the curated turns. The champion does not know
    `unknown_labels`. The examples with the ids `unjudged` are trained on, and do not judge.
    """

    new: tuple[Example, ...] = ()
    replay: tuple[Example, ...] = ()
    importance_weights: tuple[float, ...] | None = None
    counts: CurationCounts = field(default_factory=CurationCounts)
    unknown_labels: frozenset[tuple[Task, str]] = frozenset()
    unjudged: frozenset[str] = frozenset()

    def apart(self, known: Collection[tuple[Task, str]], tasks: Collection[Task], *, first: bool) -> Curated:
        """The data of a cycle on the examples with labels of `tasks` that the champion does not know.

        Such a label needs no gain. So examples without one wait for the next cycle: a few texts of a new
        label must not carry them through. Without `first` it is the other way around, if there are other
        examples.
        """
        labels = {one.example_id: frozenset(task_labels(one)) for one in self.new}
        unknown = frozenset(
            (task, label)
            for task, label in frozenset().union(*labels.values()) - frozenset(known)
            if task in tasks
        )
        with_unknown = tuple(one for one in self.new if labels[one.example_id] & unknown)
        others = tuple(one for one in self.new if not labels[one.example_id] & unknown)
        if with_unknown and (first or not others):
            return replace(self, new=with_unknown, unknown_labels=unknown)
        return replace(self, new=others)

    def renewed(self, examples: Iterable[Example]) -> Curated:
        """The data with these examples in place of former ones with the same ids. They do not judge."""
        present = {one.example_id: one for one in examples}
        new, replay = (
            tuple(present.get(one.example_id, one) for one in several) for several in (self.new, self.replay)
        )
        return replace(self, new=new, replay=replay, unjudged=frozenset(present))

    def without_a_gate(self) -> Curated:
        """The data of a cycle that no gate judges: learned examples, and new gold. New feedback waits.

        Without learned examples all of it.
        """
        return replace(self, new=tuple(one for one in self.new if one.is_gold)) if self.replay else self


async def select_full(
    store: MemoryStore, tenant_id: str, learning: LearningSettings, *, sampler: Sampler = sliding_window
) -> Curated:
    """All usable examples, balanced above `max_full_examples`."""
    picks = await balanced(usable(store, tenant_id), learning.max_full_examples, sampler)
    return Curated(
        new=tuple(example for example in picks if example.state == "pending"),
        replay=tuple(example for example in picks if example.state == "learned"),
    )


async def select_incremental(
    store: MemoryStore,
    tenant_id: str,
    learning: LearningSettings,
    *,
    seed: int,
    batches: int = 1,
    sampler: Sampler = sliding_window,
) -> Curated:
    """Pending examples, up to so many `batches`, and a replay pool of learned ones.

    The draw of the pool depends on `seed` and the newest example: the same data give the same pool.
    """
    pending = store.examples(tenant_id, state="pending", newest_first=True)
    limit = min(batches * learning.max_training_examples, learning.max_full_examples)
    new = await balanced(pending, limit, sampler)
    newest = max((example.seq or 0 for example in new), default=0)
    rng = random.Random(f"{seed}/{newest}")  # noqa: S311 - a seeded draw, no secret
    drawn = await draw_replay_pool(store, tenant_id, limit=REPLAY_POOL * learning.replay_examples, rng=rng)
    return Curated(
        new=tuple(new),
        replay=tuple(example for example, _ in drawn),
        importance_weights=tuple(weight for _, weight in drawn),
    )


async def usable(store: MemoryStore, tenant_id: str) -> AsyncIterator[Example]:
    """The pending and learned examples."""
    for state in USABLE:
        async for example in store.examples(tenant_id, state=state):
            yield example


def rank(example: Example, sampler: Sampler = sliding_window) -> tuple[bool, float, float, int, str]:
    """Order within a stratum: gold first, then higher quality (in tenths), then by the sampler."""
    priority = sampler(example.created_at.timestamp(), example.draw)
    return (
        not example.is_gold,
        -round(example.quality, 1),
        -priority,
        -(example.seq or 0),
        example.example_id,
    )


async def balanced(
    examples: AsyncIterator[Example], limit: int, sampler: Sampler = sliding_window
) -> list[Example]:
    """Up to `limit` examples, balanced over strata, the best of each first.

    Holds a few times `limit` at most. Selecting page by page does not change the result: with more examples,
    the share of a stratum only decreases, except for the one place of the remainder.
    """
    held: list[Example] = []
    async for page in pages(examples, max(limit, MIN_PAGE)):
        held = best_of_strata([*held, *page], limit, spare=1, sampler=sampler)
    return best_of_strata(held, limit, sampler=sampler)


def best_of_strata(
    examples: Iterable[Example], limit: int, *, spare: int = 0, sampler: Sampler = sliding_window
) -> list[Example]:
    """The best examples of each stratum in its share of `limit`, and up to `spare` more of each."""
    strata: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda one: rank(one, sampler)):
        strata[example.stratum].append(example)
    shares = water_fill({name: len(found) for name, found in strata.items()}, limit)
    return [example for name in sorted(strata) for example in strata[name][: shares[name] + spare]]


async def draw_replay_pool(
    store: MemoryStore, tenant_id: str, *, limit: int, rng: random.Random
) -> list[tuple[Example, float]]:
    """Up to `limit` learned training examples, balanced over strata (Chrysakis and Moens, 2020).

    Each comes with its importance weight: the inverse of the probability with which it was drawn.
    It needs one read of counters, and one index read for each stratum. The cost depends on `limit` and the
    number of strata, not on the history. With more strata than places, `rng` chooses the strata.
    """
    counts = await store.strata(tenant_id, state="learned")
    order = sorted(counts)
    rng.shuffle(order)
    shares = water_fill(counts, limit, order=order)
    drawn: list[tuple[Example, float]] = []
    for name in sorted(name for name in order if shares[name]):
        sampled = await store.sample_learned(tenant_id, name, limit=shares[name], from_draw=rng.random())
        drawn += [(example, counts[name] / len(sampled)) for example in sampled]
    return drawn


async def draw_learned_gold(store: MemoryStore, tenant_id: str, *, limit: int) -> list[Example]:
    """Up to `limit` learned gold examples, balanced over strata: the same choice at each call."""
    shares = water_fill(await store.strata(tenant_id, state="learned", gold=True), limit)
    found: list[Example] = []
    for name, share in shares.items():
        if share:
            found += await store.sample_learned(tenant_id, name, limit=share, gold_only=True)
    return found
