"""Which examples to take when there is no room for all: rare labels whole, frequent ones in equal parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterable, Mapping, Sequence

from karen_learner.records import Example

Rank = tuple[bool, float, int, str]


def water_fill(
    counts: Mapping[str, int], limit: int, *, order: Sequence[str] | None = None
) -> dict[str, int]:
    """Share `limit` places among strata: as evenly as their counts allow, min(limit, total) in all.

    Places that do not come out even go to those that stand first in `order` (default: by name).
    """
    names = list(order) if order is not None else sorted(counts)
    waiting = sorted((name for name in names if counts[name] > 0), key=lambda name: counts[name])
    shares, room = dict.fromkeys(names, 0), limit
    taken = 0
    for name in waiting:
        if counts[name] > room // (len(waiting) - taken):
            break
        shares[name] = counts[name]
        room -= counts[name]
        taken += 1
    return shares | _evenly(sorted(waiting[taken:], key=names.index), room)


def _evenly(names: Sequence[str], room: int) -> dict[str, int]:
    if not names:
        return {}
    each, over = divmod(room, len(names))
    return {name: each + (at < over) for at, name in enumerate(names)}


def rank(example: Example) -> Rank:
    """What is taken first within a stratum: gold, then the better (in tenths), then the newer."""
    return (not example.is_gold, -round(example.quality, 1), -(example.seq or 0), example.example_id)


class BalancedSelection:
    """Picks up to `limit` of the examples added to it, holding a few times `limit` at most.

    The picks are those that water-filling over all that was added would give. Pruning keeps that
    true: as examples arrive the level only sinks, so what lies above it by two cannot return.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._strata: dict[str, list[Example]] = defaultdict(list)
        self._held = 0

    def add(self, example: Example) -> None:
        self._strata[example.stratum].append(example)
        self._held += 1
        if self._held > 2 * (self._limit + 2 * len(self._strata)):
            self._cut(spare=1)

    def picks(self) -> list[Example]:
        """The selection: by stratum, the best first."""
        self._cut(spare=0)
        return [example for name in sorted(self._strata) for example in self._strata[name]]

    def _cut(self, *, spare: int) -> None:
        shares = water_fill({name: len(held) for name, held in self._strata.items()}, self._limit)
        for name, held in self._strata.items():
            held.sort(key=rank)
            del held[shares[name] + spare :]
        self._held = sum(map(len, self._strata.values()))


async def balanced(examples: AsyncIterable[Example], limit: int) -> list[Example]:
    """Up to `limit` of the examples, balanced over their strata."""
    selection = BalancedSelection(limit)
    async for example in examples:
        selection.add(example)
    return selection.picks()
