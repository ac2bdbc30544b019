"""Recording cost of `PerformanceMonitor`, event-loop lag meanwhile, and metrics with many stored outcomes.

    python benchmarks/recording.py [--seconds 5] [--rate 50000] [--stored 10000 1000000]

Three measurements, in one process:

1. CPU time of one call of `record_agent_run` and `record_accuracy` in a plain loop.
2. A task records at the given rate, in pieces of 5 ms. Another task measures how late it wakes up from sleeps
   of 1 ms. Without a store, and with a store on disk.
3. `get_system_metrics` with so many stored outcomes in the window.

Other load on the machine adds to the lag: `idle lag` is that of the same loop without recording.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from karen_learner.memory import open_store
from karen_learner.monitoring.performance import PerformanceMonitor
from karen_learner.records import Outcome, utc_now
from karen_learner.settings import load_settings

PIECE_S = 0.005
NAP_S = 0.001
CALLS = 50_000
REPEATS = 5


def run(monitor: PerformanceMonitor, count: int) -> None:
    for _ in range(count):
        monitor.record_agent_run(
            "run-1", "planner", "llm", "success", 850.0, 120, 0.002, strategy="llm", domain="billing"
        )


def call_cost(kind: str) -> float:
    """The median CPU microseconds of a call."""
    costs = []
    for _ in range(REPEATS):
        monitor = PerformanceMonitor()
        started = time.process_time()
        if kind == "record_agent_run":
            run(monitor, CALLS)
        else:
            for _ in range(CALLS):
                monitor.record_accuracy("router", "task-1", "balance", "balance", "user")
        costs.append((time.process_time() - started) / CALLS * 1e6)
    return float(np.median(costs))


async def lags(seconds: float, rate: int, monitor: PerformanceMonitor | None) -> dict[str, float]:
    """How late a task wakes up, in milliseconds, and the achieved rate."""
    late: list[float] = []
    recorded, recording_s = 0, 0.0
    end = time.perf_counter() + seconds

    async def measure() -> None:
        while time.perf_counter() < end:
            planned = time.perf_counter() + NAP_S
            await asyncio.sleep(NAP_S)
            late.append(1000.0 * (time.perf_counter() - planned))

    async def record() -> None:
        nonlocal recorded, recording_s
        started = time.perf_counter()
        while (now := time.perf_counter()) < end:
            due = int((now - started) * rate) - recorded
            if monitor is not None and due > 0:
                piece = min(due, int(rate * PIECE_S))
                before = time.process_time()
                run(monitor, piece)
                recording_s += time.process_time() - before
                recorded += piece
            await asyncio.sleep(0 if due > rate * PIECE_S else PIECE_S / 2)

    await asyncio.gather(measure(), record())
    found = {"p50": np.percentile(late, 50), "p99": np.percentile(late, 99), "max": max(late)}
    return {name: round(float(value), 2) for name, value in found.items()} | {
        "rate": round(recorded / seconds),
        "us_a_call": round(recording_s / max(1, recorded) * 1e6, 2),
    }


async def lag_while_recording(seconds: float, rate: int, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"idle": await lags(seconds, rate, None)}
    async with PerformanceMonitor() as monitor:
        found["without a store"] = {**await lags(seconds, rate, monitor), **_kept(monitor)}
    async with (
        open_store(folder / "lag.db", load_settings().store) as store,
        PerformanceMonitor(store=store) as monitor,
    ):
        found["with a store"] = {**await lags(seconds, rate, monitor), **_kept(monitor)}
    return found


def _kept(monitor: PerformanceMonitor) -> dict[str, int]:
    stats = monitor.get_stats()
    return {name: stats[name] for name in ("recorded", "dropped", "stored", "not_stored")}


async def metrics_cost(stored: int, folder: Path) -> dict[str, float]:
    """The median milliseconds of `get_system_metrics` after a start with so many stored outcomes."""
    async with open_store(folder / f"{stored}.db", load_settings().store) as store:
        since = utc_now() - timedelta(minutes=50)
        step = timedelta(minutes=50) / stored
        for start in range(0, stored, 10_000):
            outcomes = [
                Outcome(
                    known_at=since + number * step, source="agent_run", agent=f"agent {number % 5}",
                    domain=f"domain {number % 7}", success=number % 9 > 0, duration_ms=float(number % 900),
                )
                for number in range(start, min(stored, start + 10_000))
            ]  # fmt: skip
            await store.add_outcomes("default", outcomes)
        started = time.perf_counter()
        async with PerformanceMonitor(store=store) as monitor:
            loading = time.perf_counter() - started
            monitor.get_system_metrics()
            times = []
            for _ in range(50):
                before = time.process_time()
                metrics = monitor.get_system_metrics()
                times.append(1000.0 * (time.process_time() - before))
            return {
                "stored": stored,
                "measured": metrics.outcomes,
                "ms": round(float(np.median(times)), 3),
                "start_s": round(loading, 2),
            }


async def main(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        cost = {kind: round(call_cost(kind), 2) for kind in ("record_agent_run", "record_accuracy")}
        lag = await lag_while_recording(arguments.seconds, arguments.rate, Path(folder))
        metrics = [await metrics_cost(stored, Path(folder)) for stored in arguments.stored]
    ratio = metrics[-1]["ms"] / metrics[0]["ms"]
    return {"us_a_call": cost, "lag_ms": lag, "metrics": metrics, "metrics_ratio": round(ratio, 2)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=int, default=50_000)
    parser.add_argument("--stored", type=int, nargs="+", default=[10_000, 1_000_000])
    print(json.dumps(asyncio.run(main(parser.parse_args())), indent=2))
