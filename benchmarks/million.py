"""Cost of the store at a million turns against ten thousand.

    python benchmarks/million.py

Fills one tenant. At each size it measures the counts of `status`, the curation of 1,000 new turns (one in
twenty older turns has curated feedback), and adding turns. Each measurement follows a `sync`, so that the
filling does not share the disk with it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from collect import TENANT, Measured, make_turn, measure

from karen_learner.curation.curator import Curator
from karen_learner.memory import SqlMemoryStore, open_store
from karen_learner.settings import load_settings

SYLLABLES = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]
FILLING_CALLERS = 512
FEEDBACK_EVERY = 20
CALLERS = 64
TARGET_RATIO = 1.5

rng = random.Random(0)


async def fill(store: SqlMemoryStore, size: int) -> float:
    """Add turns up to `size`, one in twenty with feedback. Returns turns a second."""
    missing = size - (await store.counts(TENANT)).turns
    numbers = iter(range(missing))

    async def caller() -> None:
        for number in numbers:
            await store.add_turn(make_turn(with_feedback=number % FEEDBACK_EVERY == 0, text=words()))

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(FILLING_CALLERS)))
    return missing / (time.perf_counter() - started)


def words() -> str:
    """A new text."""
    return " ".join(f"{rng.choice(SYLLABLES)}{rng.choice(SYLLABLES)}" for _ in range(7))


async def curate(store: SqlMemoryStore) -> None:
    """Curate all turns awaiting curation."""
    counts = await Curator(store, load_settings()).curate(TENANT)
    if counts.accepted != counts.turns:
        raise RuntimeError(f"every turn should have become an example: {counts}")


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    await work()
    return (time.perf_counter() - started) * 1e3


async def measure_all(store: SqlMemoryStore) -> dict[str, float]:
    """Median milliseconds of each operation."""
    await curate(store)
    counting = [await timed(lambda: store.counts(TENANT)) for _ in range(200)]
    adding = [await timed(lambda: store.add_turn(make_turn(with_feedback=False))) for _ in range(300)]
    return {
        "counts of status": statistics.median(counting),
        "curate 1,000 new turns": statistics.median([await curate_1000(store) for _ in range(7)]),
        "add_turn, one caller": statistics.median(adding),
        f"add_turn, {CALLERS} callers, per turn": await milliseconds_per_turn(store),
    }


async def curate_1000(store: SqlMemoryStore) -> float:
    await asyncio.gather(*(store.add_turn(make_turn(text=words())) for _ in range(1_000)))
    return await timed(lambda: curate(store))


async def milliseconds_per_turn(store: SqlMemoryStore) -> float:
    measured = Measured()
    for _ in range(7):
        turns = [make_turn(with_feedback=False) for _ in range(3_200)]
        await measure(store.add_turn, turns, callers=CALLERS, into=measured)
    return 1e3 / measured.rate


async def run(file: Path, sizes: list[int]) -> list[dict[str, float]]:
    columns = []
    async with open_store(file, load_settings().store) as store:
        await store.declare_labels(TENANT, {"intent": ["optimize_code"], "sentiment": ["neutral"]})
        for size in sizes:
            rate = await fill(store, size)
            print(
                f"filled to {size:,} at {rate:,.0f} turns/s, including the construction of the turns",
                flush=True,
            )
            await asyncio.to_thread(os.sync)
            columns.append(await measure_all(store))
    return columns


def print_table(sizes: list[int], columns: list[dict[str, float]]) -> None:
    headings = "".join(f"{size:>14,}" for size in sizes)
    print(f"{'milliseconds at':36}{headings}{'ratio':>9}")
    for name in columns[0]:
        values = [column[name] for column in columns]
        numbers = "".join(f"{value:14.3f}" for value in values)
        print(f"{name:36}{numbers}{values[-1] / values[0]:9.2f}")
    print(f"target: no ratio above {TARGET_RATIO}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--folder", help="folder of the database; default: the temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        columns = asyncio.run(run(Path(folder) / "karen.db", options.sizes))
    print_table(options.sizes, columns)


if __name__ == "__main__":
    main()
