"""Event-loop lag and latency while a cycle trains, and memory growth.

Measures in one run on the shipped corpus: event-loop lag and latency of `analyze` at 50 turns a second, idle
and during a full cycle in the worker process; resident memory before and after 200,000 analysed texts.

    python benchmarks/responsiveness.py [--seconds 20] [--texts 200000]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from karen_learner import AutonomousLearner, create_autonomous_learner
from karen_learner.corpora.importers import iter_labelled, required

CORPUS = Path(__file__).parent.parent / "corpus" / "telecom"
TENANT = "bench"
TURNS_PER_SECOND = 50
ANALYSES_PER_SECOND = 20
LAG_INTERVAL_S = 0.005
TARGET_LAG_MS = 5.0
TARGET_GROWTH = 0.05
WARM_UP_TEXTS = 5_000


@dataclass
class Samples:
    """Seconds: event-loop lags and durations of `analyze`."""

    lags: list[float] = field(default_factory=list)
    analyses: list[float] = field(default_factory=list)
    turns: int = 0


async def measure_lag(samples: Samples, stop: asyncio.Event) -> None:
    while not stop.is_set():
        due = perf_counter() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        samples.lags.append(max(0.0, perf_counter() - due))


async def collect(
    learner: AutonomousLearner, texts: Sequence[str], samples: Samples, stop: asyncio.Event
) -> None:
    rng, started, pending = random.Random(1), perf_counter(), set()
    while not stop.is_set():
        task = asyncio.create_task(
            learner.collect_conversation_metadata(
                TENANT, rng.choice(texts), "Let me see.", f"u{rng.randrange(99)}"
            )
        )
        pending.add(task)
        task.add_done_callback(pending.discard)
        samples.turns += 1
        await asyncio.sleep(max(0.0, started + samples.turns / TURNS_PER_SECOND - perf_counter()))
    await asyncio.gather(*pending)


async def measure_analyses(
    learner: AutonomousLearner, texts: Sequence[str], samples: Samples, stop: asyncio.Event
) -> None:
    rng = random.Random(2)
    while not stop.is_set():
        started = perf_counter()
        await learner.analyze(TENANT, rng.choice(texts))
        samples.analyses.append(perf_counter() - started)
        await asyncio.sleep(1 / ANALYSES_PER_SECOND)


async def under_load(
    learner: AutonomousLearner, texts: Sequence[str], until: asyncio.Future[object]
) -> Samples:
    """Collect and measure until the future is done."""
    samples, stop = Samples(), asyncio.Event()
    load = [
        asyncio.create_task(measure_lag(samples, stop)),
        asyncio.create_task(collect(learner, texts, samples, stop)),
        asyncio.create_task(measure_analyses(learner, texts, samples, stop)),
    ]
    await until
    stop.set()
    await asyncio.gather(*load)
    return samples


def percentile(values: Sequence[float], share: float) -> float:
    return statistics.quantiles(values, n=1000)[round(share * 1000) - 1] * 1000


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("resident memory is read from /proc: run this on Linux")


def table_line(name: str, samples: Samples) -> str:
    return (
        f"{name:<16} {samples.turns:>6} {percentile(samples.lags, 0.5):>9.2f} "
        f"{percentile(samples.lags, 0.99):>9.2f} {max(samples.lags) * 1000:>9.1f} "
        f"{percentile(samples.analyses, 0.5):>12.2f} {percentile(samples.analyses, 0.99):>12.2f}"
    )


async def responsiveness(learner: AutonomousLearner, texts: Sequence[str], seconds: float) -> None:
    idle = await under_load(learner, texts, asyncio.ensure_future(asyncio.sleep(seconds)))
    cycle = asyncio.ensure_future(learner.trigger_learning_cycle(TENANT, force_training=True, mode="full"))
    training = await under_load(learner, texts, cycle)
    result = cycle.result()
    columns = f"{'lag p50':>9} {'lag p99':>9} {'lag max':>9} {'analyze p50':>12} {'analyze p99':>12}"
    print(f"{'':<16} {'turns':>6} {columns}  (ms)")
    print(table_line("idle", idle))
    print(table_line("during a cycle", training))
    ratio = percentile(training.analyses, 0.5) / percentile(idle.analyses, 0.5)
    print(f"cycle: {result.status}, {result.duration_s:.1f} s; analyze p50 is {ratio:.2f} of the idle one")
    verdict = "reached" if percentile(training.lags, 0.99) <= TARGET_LAG_MS else "missed"
    print(f"target: lag p99 <= {TARGET_LAG_MS:g} ms during a cycle: {verdict}")


async def memory(learner: AutonomousLearner, texts: Sequence[str], count: int) -> None:
    rng = random.Random(3)

    async def analyze(number: int) -> None:
        for start in range(0, number, 1000):
            batch = [f"{rng.choice(texts)} {rng.randrange(10**9)}" for _ in range(min(1000, number - start))]
            await learner.analyze_many(TENANT, batch)

    await analyze(WARM_UP_TEXTS)
    before, started = resident_mb(), perf_counter()
    await analyze(count)
    after, taken = resident_mb(), perf_counter() - started
    growth = after / before - 1
    print(f"memory: {before:.0f} MB before, {after:.0f} MB after {count:,} new texts: {growth:+.1%}")
    print(f"        {count / taken:,.0f} texts/s")
    print(f"target: growth below {TARGET_GROWTH:.0%}: {'reached' if growth < TARGET_GROWTH else 'missed'}")


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of the idle measurement")
    parser.add_argument("--texts", type=int, default=200_000, help="texts of the memory measurement")
    options = parser.parse_args()
    lines = required(iter_labelled(CORPUS / "train.jsonl"))
    texts = [line.text for line in lines]
    with tempfile.TemporaryDirectory() as home:
        overrides = {"training.n_iter": 6, "training.min_updates": 0}
        async with create_autonomous_learner(home, overrides=overrides) as learner:
            result = await learner.bootstrap(TENANT, lines)
            print(f"bootstrap: {result.status}, {result.duration_s:.1f} s, {len(lines)} examples")
            await responsiveness(learner, texts, options.seconds)
            await memory(learner, texts, options.texts)


if __name__ == "__main__":
    asyncio.run(main())
