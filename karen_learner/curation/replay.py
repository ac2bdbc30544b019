"""Which learned examples may be trained on again, so that what was known is not forgotten.

Balanced over labels, as in class-balanced reservoirs (Chrysakis and Moens, 2020), but drawn from the
store when it is needed: the whole history stays within reach, and nothing is kept beside it. Which of them
are trained on again is for the model to say (see `training.rehearsal`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from karen_learner.contracts import MemoryStore
from karen_learner.curation.balance import water_fill
from karen_learner.records import Example

REPLAY_POOL = 3
"""Of so many times the examples that may be replayed each pipe chooses its own: to look at one costs a tenth
of training on it again."""


@dataclass(frozen=True)
class Drawn:
    """A learned example, and how many of its stratum it stands for: itself and those not drawn."""

    example: Example
    importance_weight: float


async def sample_replay(store: MemoryStore, tenant_id: str, *, limit: int, rng: random.Random) -> list[Drawn]:
    """Up to `limit` learned training examples, balanced over strata.

    One read of counters and one index read a stratum: the cost depends on `limit` and on the number of
    strata, not on history. With more strata than places, chance decides which are left out this time.
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
