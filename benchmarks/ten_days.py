"""The autonomous service through simulated days: daily cycles, faults, and restarts.

    python benchmarks/ten_days.py [--days 10]

A small tenant has 60 turns a day, a third of which people correct. A cycle is scheduled at 03:00. The service
ticks each half hour of a simulated clock, and starts anew every second day. Faults are made on some days.
The first table has the state at the end of each day: rows of outcomes, incidents, notifications and cycles
(`rows`), apart from turns and examples, which grow with the data. Then each incident tells its story.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from karen_learner import AutonomousLearner, create_autonomous_learner
from karen_learner.autonomy.notifications import Notifier
from karen_learner.autonomy.notify_part import NotifyPart
from karen_learner.autonomy.service import AutonomousService, MakePart
from karen_learner.autonomy.troubleshooter.part import MendingPart
from karen_learner.events import Event, TrainingProgressed
from karen_learner.monitoring.readings.sources import resources_of
from karen_learner.records import Outcome
from karen_learner.records.incidents import Incident
from karen_learner.records.strategies import StrategyTally

TENANT = "acme"
PHRASES = {
    "balance": ("what is my balance {}", "how much money is on {}", "the sum of my account {}"),
    "travel": ("a flight to {} please", "book a train to {}", "i want to see {} in spring"),
    "hello": ("good morning {} you", "hi there {}", "hello my {} friend"),
}
OTHER = {"balance": "travel", "travel": "hello", "hello": "balance"}
SYLLABLES = ("ka", "ro", "mi", "ta", "le", "su", "no", "vi", "pa", "de")
TURNS, TICK, TICKS = 60, timedelta(minutes=30), 48
OVERRIDES: dict[str, Any] = {
    "learning.min_data_threshold": 10,
    "learning.corpus_retention_days": 2.0,
    "learning.backup_retention_days": 3.0,
    "schedule.cron": "0 3 * * *",
    "troubleshooter.interval_s": 600.0,
}
TABLES = ("outcomes", "incidents", "outbox", "cycles", "service_states", "schedules", "strategies")


@dataclass
class World:
    """The clock, the words of people, and whether a strategy fails."""

    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc).replace(hour=0, minute=0))
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    person: int = 0
    llm_fails: bool = False

    def word(self) -> str:
        return "".join(self.rng.choice(SYLLABLES) for _ in range(3))

    def text(self) -> tuple[str, str]:
        intent = self.rng.choice(list(PHRASES))
        return self.rng.choice(PHRASES[intent]).format(self.word()), intent


# Faults -------------------------------------------------------------------------------------------


async def damage_version(learner: AutonomousLearner, _world: World) -> None:
    champion = (await learner.status(TENANT)).champion
    if champion is not None:
        (champion.path / "meta.json").write_text("{}")


async def kill_next_training(learner: AutonomousLearner, _world: World) -> None:
    """The worker is killed in the next training."""
    kills = [1]

    async def kill(event: Event) -> None:
        pid = getattr(learner._backend, "pid", None)
        if isinstance(event, TrainingProgressed) and kills and pid:
            kills.clear()
            os.kill(pid, 9)

    learner.events.subscribe(kill)
    await collect(learner, _world, 30, corrected=1.0)
    await learner.trigger_learning_cycle(TENANT, force_training=True, mode="full")


async def flip_labels(learner: AutonomousLearner, world: World) -> None:
    """Many people correct right answers to wrong ones."""
    await collect(learner, world, 90, corrected=1.0, flipped=True)


async def fail_strategy(_learner: AutonomousLearner, world: World) -> None:
    world.llm_fails = True


async def remove_models(learner: AutonomousLearner, _world: World) -> None:
    shutil.rmtree(learner.layout.model_root)
    shutil.rmtree(learner.layout.backup_root)


FAULTS: Mapping[int, tuple[str, Callable[[AutonomousLearner, World], Awaitable[None]]]] = {
    2: ("a file of the live model is overwritten", damage_version),
    4: ("the worker is killed in a training", kill_next_training),
    5: ("90 right answers are corrected to wrong ones", flip_labels),
    7: ("the strategy llm fails from now on", fail_strategy),
    9: ("all models and backups are deleted", remove_models),
}
"""Faults by day, at noon."""


# The days -----------------------------------------------------------------------------------------


async def collect(
    learner: AutonomousLearner, world: World, count: int, *, corrected: float = 0.33, flipped: bool = False
) -> None:
    for _ in range(count):
        text, intent = world.text()
        world.person += 1
        label = OTHER[intent] if flipped else intent
        feedback = {"corrected_intent": label} if world.rng.random() < corrected else None
        await learner.collect_conversation_metadata(
            TENANT, text, "ok", f"user {world.person % 500}", feedback, occurred_at=world.now
        )


async def attempt(learner: AutonomousLearner, world: World, barred: bool) -> None:
    """Two attempts of agents. A barred strategy is not used."""
    strategy = "template" if barred else "llm"
    success = not (world.llm_fails and strategy == "llm") and world.rng.random() < 0.95
    rows = [
        Outcome(known_at=world.now + timedelta(seconds=at), source="agent_run", agent="planner",
                strategy=strategy, domain="billing", success=success, duration_ms=400.0)
        for at in range(2)
    ]  # fmt: skip
    await learner.store.add_outcomes(TENANT, rows)


@asynccontextmanager
async def serving(
    home: Path, world: World
) -> AsyncIterator[tuple[AutonomousLearner, AutonomousService, MendingPart]]:
    """The service as `karen-learner run` makes it, under the simulated clock."""

    def clock() -> datetime:
        return world.now

    async with create_autonomous_learner(home, overrides=OVERRIDES, clock=clock) as learner:
        notifier = Notifier(learner.store, learner.settings.notifications)
        told = NotifyPart(notifier, learner.events, clock=clock)
        mending = MendingPart(learner, notifier, clock=clock)
        parts: list[MakePart] = [mending.join, lambda _: told]
        async with AutonomousService(learner, parts=parts, on_alert=told.alert, clock=clock) as service:
            yield learner, service, mending


async def live_through(home: Path, world: World, first: int, days: int) -> None:
    """Some days of one service."""
    async with serving(home, world) as (learner, service, mending):
        for day in range(first, first + days):
            for tick in range(TICKS):
                await collect(learner, world, TURNS // TICKS + (tick % 4 == 0))
                switches = (await learner.store.strategies(TENANT)).switches
                await attempt(learner, world, barred=any(one.strategy == "llm" for one in switches))
                if tick == TICKS // 2 and day in FAULTS:
                    await FAULTS[day][1](learner, world)
                await service.tick()
                await service.queue.drain()
                if mending._task is not None:
                    await asyncio.wait([mending._task])
                world.now += TICK
            print(await row(learner, day), flush=True)


async def row(learner: AutonomousLearner, day: int) -> str:
    layout = learner.layout
    with sqlite3.connect(f"file:{layout.database}?mode=ro", uri=True) as database:
        counts = {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES}
    cycles = [one for one in await learner.history(TENANT, limit=1_000) if one.status != "skipped"]
    open_ones = await learner.store.unended_incidents()
    files = sum(path.stat().st_size for path in layout.home.rglob("*") if path.is_file())
    return (
        f"| {day} | {FAULTS[day][0] if day in FAULTS else ''} | {len(cycles)} "
        f"| {', '.join(f'{one.type} ({one.state})' for one in open_ones)} "
        f"| {resources_of(layout).memory / 1e6:.0f} | {files / 1e6:.1f} "
        f"| {layout.database.stat().st_size / 1e6:.1f} | {sum(counts.values())} |"
    )


async def live(days: int) -> tuple[datetime, Sequence[Incident]]:
    """Print a row for each day; the first moment, and all incidents, newest first."""
    logging.disable(logging.ERROR)
    world = World()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        gold = [{"text": phrase.format(world.word()), "intent": intent}
                for intent, phrases in PHRASES.items() for phrase in phrases for _ in range(8)]  # fmt: skip
        async with create_autonomous_learner(home, overrides=OVERRIDES, clock=lambda: world.now) as learner:
            await learner.bootstrap(TENANT, gold)
            tallies = [
                StrategyTally(kind="attempts", domain="billing", name=name, counts={"success": 1.0},
                              at=world.now) for name in ("llm", "template")
            ]  # fmt: skip
            await learner.store.add_strategy_tallies(TENANT, tallies, half_life_s=86_400.0)
        print("| day | fault | cycles | open incidents | memory MB | home MB | database MB | rows |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        start = world.now
        for first in range(1, days + 1, 2):
            await live_through(home, world, first, min(2, days + 1 - first))
        async with create_autonomous_learner(home, overrides=OVERRIDES, clock=lambda: world.now) as learner:
            return start, await learner.store.newest_incidents(None, limit=1_000)


def for_people(incidents: Sequence[Incident]) -> int:
    """The number of incidents about which people had to decide."""
    return sum(any(entry.kind == "escalation" for entry in one.story) for one in incidents)


async def main(days: int) -> None:
    start, incidents = await live(days)
    print(f"\n{len(incidents)} incidents, {for_people(incidents)} of them for people")
    for one in reversed(incidents):
        print(f"\n{one.type} ({one.state})")
        for entry in one.story:
            span = entry.at - start
            print(f"  day {span.days + 1} {entry.at:%H:%M} {entry.kind}: {entry.text}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=10)
    asyncio.run(main(parser.parse_args().days))
