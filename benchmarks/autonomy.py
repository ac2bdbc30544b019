"""A world that changes, served without a person: the autonomous service beside a nightly schedule and ADWIN.

    python benchmarks/autonomy.py DATA/clinc150 [--shots 20] [--good 500] [--changed 1000] [--exchanged 10]

A tenant knows 130 intents of clinc150. Then 20 new intents appear, and `--exchanged` ones exchange their
meanings. Every turn gets its label as feedback, two minutes of simulated time apart. The variants:

- `service`: readings, triggers and gates as shipped, with 200 new samples and without the guard of the load;
- `nightly`: a cycle at 03:00;
- `adwin`: a cycle at each alarm of river's ADWIN (`pip install river`), and no other trigger;
- `nothing`: no learning.

`found after`: labelled outcomes from the change to the first alarm. `refit`: a model that is trained once on
everything. CPU seconds include those of the worker process.

`--figures` measures instead, without data: the processing time of turns with the service, the troubleshooter
and a monitor that work each ten seconds, beside a learner alone (target: 10 % more at most), for steady texts
and for texts whose drift starts learning cycles; the errors that learned rules leave in the world of
`examples/self_improving_agent.py` (target: half); and the incidents of `ten_days.py` that need a person
(target: 10 %).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import ten_days

from karen_learner import AutonomousLearner, PerformanceMonitor, create_autonomous_learner
from karen_learner.autonomy.notifications import Notifier
from karen_learner.autonomy.service import AutonomousService
from karen_learner.autonomy.triggers.part import request_cycle
from karen_learner.autonomy.troubleshooter.part import MendingPart
from karen_learner.events import CycleFinished, Event

TENANT = "bench"
WORDS = ("balance", "travel", "hello")
TICK_S = 10.0
"""Three times as often as shipped, so that a round has several ticks."""
NEW = 20
TURN = timedelta(minutes=2)
TURNS_PER_TICK = 25
NEVER: Mapping[str, Any] = {"any": ["manual"]}
SERVICE: Mapping[str, Any] = {
    "any": [
        "manual",
        {
            "all": [
                "no_cycle", "cooled_down", "within_budget",
                {"any": [{"new_data": {"samples": 200}}, "age", "degradation", "consecutive_failures"]},
            ]
        },
    ]
}  # fmt: skip
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "service": {"triggers.condition": SERVICE},
    "nightly": {"triggers.condition": NEVER, "schedule.cron": "0 3 * * *"},
    "adwin": {"triggers.condition": NEVER},
    "nothing": {"triggers.condition": NEVER},
}
Text = tuple[str, str]


@dataclass
class World:
    """Labelled texts: gold at the start, turns before and after the change, and a test after it."""

    gold: list[Text]
    good: list[Text]
    changed: list[Text]
    test: list[Text]
    meanings: Mapping[str, str]


@dataclass
class Clock:
    """A simulated clock."""

    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Run:
    """The result of one variant."""

    variant: str
    found_after: int | None = None
    false_alarms: int = 0
    cycles: list[str] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    cpu_s: float = 0.0


def read(path: Path) -> list[Text]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["text"], row["intent"]) for row in rows]


def make_world(folder: Path, *, shots: int, good: int, changed: int, exchanged: int, seed: int) -> World:
    """The texts of both worlds. After the change, label k of the exchanged ones means label k + 1."""
    order = random.Random(seed)
    texts = read(folder / "train.jsonl")
    order.shuffle(texts)
    intents = sorted({intent for _, intent in texts})
    order.shuffle(intents)
    new, moved = set(intents[:NEW]), intents[NEW : NEW + exchanged]
    meanings = {intent: moved[(at + 1) % exchanged] for at, intent in enumerate(moved)}
    old = [one for one in texts if one[1] not in new]
    gold, rest = take(old, shots)
    used = set(rest[:good])
    later = [one for one in texts if one not in used and one not in set(gold)]
    order.shuffle(later)  # the first texts of known intents are gold, so new ones would come first
    later = later[:changed]

    def now(part: Sequence[Text]) -> list[Text]:
        return [(text, meanings.get(intent, intent)) for text, intent in part]

    return World(gold, rest[:good], now(later), now(read(folder / "test.jsonl")), meanings)


def take(texts: Sequence[Text], shots: int) -> tuple[list[Text], list[Text]]:
    """The first `shots` texts of each intent, and the others."""
    counts: dict[str, int] = {}
    first, others = [], []
    for one in texts:
        counts[one[1]] = counts.get(one[1], 0) + 1
        (first if counts[one[1]] <= shots else others).append(one)
    return first, others


async def run_variant(name: str, world: World, seed: int) -> Run:
    """Serve both worlds with one variant."""
    run, clock, before = Run(name), Clock(), cpu_seconds()
    with tempfile.TemporaryDirectory() as home:
        async with create_autonomous_learner(home, overrides=VARIANTS[name], clock=clock) as learner:
            await learner.bootstrap(TENANT, [{"text": text, "intent": label} for text, label in world.gold])

            def on_event(event: Event) -> None:
                if isinstance(event, CycleFinished):
                    result = event.result
                    run.cycles.append(f"{result.mode}/{result.status}")

            learner.events.subscribe(on_event)
            async with AutonomousService(learner, clock=clock) as service:
                await serve(run, service, learner, world, clock, seed)
            run.accuracies.append(await accuracy(learner, world.test))
            await learner.events.drain()
    run.cpu_s = cpu_seconds() - before
    return run


async def serve(
    run: Run, service: AutonomousService, learner: AutonomousLearner, world: World, clock: Clock, seed: int
) -> None:
    adwin = make_adwin() if run.variant == "adwin" else None
    people = random.Random(seed)
    for number, (text, label) in enumerate([*world.good, *world.changed]):
        clock.now += TURN
        metadata = await learner.collect_conversation_metadata(
            TENANT, text, "ok", f"user {people.randrange(200)}", {"corrected_intent": label},
            occurred_at=clock.now,
        )  # fmt: skip
        changed = number - len(world.good)
        if adwin is not None:
            adwin.update(float(metadata.intent_detected != label))
            if adwin.drift_detected:
                note_alarm(run, changed)
                await request_cycle(learner.store, TENANT, "ADWIN", clock=clock)
        if (number + 1) % TURNS_PER_TICK == 0:
            await service.tick()
            degradation = service.readings.latest(TENANT).get("degradation")
            if run.variant == "service" and degradation is not None and degradation.alarm:
                note_alarm(run, changed)
            await service.queue.drain()
        if changed >= 0 and changed % 500 == 0:
            run.accuracies.append(await accuracy(learner, world.test))


def note_alarm(run: Run, changed: int) -> None:
    if changed < 0:
        run.false_alarms += 1
    elif run.found_after is None:
        run.found_after = changed + 1


def make_adwin() -> Any:
    from river.drift import ADWIN

    return ADWIN()


async def accuracy(learner: AutonomousLearner, test: Sequence[Text]) -> float:
    found = await learner.analyze_many(TENANT, [text for text, _ in test])
    return sum(one.intent == label for one, (_, label) in zip(found, test, strict=True)) / len(test)


async def refit_accuracy(world: World) -> float:
    """The accuracy of a model that is trained once on all texts with their present meaning."""
    texts = [*world.gold, *world.good]
    present = [(text, world.meanings.get(label, label)) for text, label in texts] + world.changed
    with tempfile.TemporaryDirectory() as home:
        async with create_autonomous_learner(home) as learner:
            await learner.bootstrap(TENANT, [{"text": text, "intent": label} for text, label in present])
            return await accuracy(learner, world.test)


# The figures --------------------------------------------------------------------------------------


@dataclass
class Processing:
    """CPU seconds of turns: of each turn with everything off and on, by round, and the cycles meanwhile.

    `training_s` is the CPU of the worker process in the rounds with everything on, by turn.
    """

    off: list[float] = field(default_factory=list)
    on: list[float] = field(default_factory=list)
    training_s: list[float] = field(default_factory=list)
    cycles: int = 0


async def processing_times(turns: int, rounds: int, *, drifting: bool) -> Processing:
    """The CPU of a turn in alternating rounds. Drifting texts make the troubleshooter learn."""
    found, rng = Processing(), random.Random(0)

    def count(event: Event) -> None:
        found.cycles += isinstance(event, CycleFinished)

    def texts() -> Sequence[str]:
        numbers = range(turns) if drifting else [rng.randrange(turns) for _ in range(turns)]
        return [f"{WORDS[at % len(WORDS)]} please {number}" for at, number in enumerate(numbers)]

    with tempfile.TemporaryDirectory() as home:
        overrides = {"triggers.tick_s": TICK_S, "triggers.condition": NEVER}
        async with create_autonomous_learner(home, overrides=overrides) as learner:
            gold = [{"text": f"{word} number {at}", "intent": word} for word in WORDS for at in range(12)]
            await learner.bootstrap(TENANT, gold)
            await turn_time(learner, None, texts())
            learner.events.subscribe(count)
            for _ in range(rounds):
                found.off.append(await turn_time(learner, None, texts()))
                notifier = Notifier(learner.store, learner.settings.notifications)
                mending = MendingPart(learner, notifier)
                service = AutonomousService(learner, parts=[mending.join])
                monitor = PerformanceMonitor(learner, tenant_id=TENANT)
                await monitor.start()
                running = asyncio.create_task(service.run())
                while not service.readings.latest(TENANT):  # the first tick reads the newest turns at once
                    await asyncio.sleep(0.1)
                before = worker_seconds(learner)
                found.on.append(await turn_time(learner, monitor, texts()))
                found.training_s.append((worker_seconds(learner) - before) / turns)
                service.stop()
                await running
                await monitor.stop()
    return found


async def turn_time(
    learner: AutonomousLearner, monitor: PerformanceMonitor | None, texts: Sequence[str]
) -> float:
    """The mean CPU seconds of a turn in this process, at 50 turns a second."""
    began = time.process_time()
    for number, text in enumerate(texts):
        await learner.collect_conversation_metadata(
            TENANT, text, "ok", f"user {number % 99}", {"satisfaction_score": 0.8}
        )
        if monitor is not None:
            monitor.record_agent_run(f"run {number}", "planner", "llm", "success", 12.0)
        await asyncio.sleep(1 / 50)
    return (time.process_time() - began) / len(texts)


def worker_seconds(learner: AutonomousLearner) -> float:
    """CPU seconds of the worker process so far; 0 without one."""
    pid = getattr(learner._backend, "pid", None)
    if pid is None:
        return 0.0
    user, system = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")")[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def errors_left() -> str:
    """The last lines of the example: errors that a fixed and a learning agent leave."""
    script = Path(__file__).parent.parent / "examples" / "self_improving_agent.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    return "\n".join(done.stdout.splitlines()[-3:])


def print_figures(days: int) -> None:
    for drifting in (False, True):
        found = asyncio.run(processing_times(turns=1_500, rounds=3, drifting=drifting))
        off, on, training = (statistics.median(part) for part in (found.off, found.on, found.training_s))
        print(
            f"{'drifting' if drifting else 'steady'} texts, {found.cycles} cycles: {1e3 * off:.2f} ms of CPU "
            f"for a turn with everything off, {1e3 * on:.2f} ms with everything on "
            f"({100 * (on / off - 1):+.0f} %), and {1e3 * training:.2f} ms of the worker"
        )
    print(errors_left())
    _, incidents = asyncio.run(ten_days.live(days))
    print(f"{ten_days.for_people(incidents)} of {len(incidents)} incidents need a person")


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def rows(runs: Sequence[Run]) -> Iterator[str]:
    yield "| variant | found after | false alarms | cycles (deployed) | accuracy by 500 turns | CPU s |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for one in runs:
        deployed = sum(cycle.endswith("/deployed") for cycle in one.cycles)
        course = " ".join(f"{100 * value:.1f}" for value in one.accuracies)
        yield (
            f"| {one.variant} | {one.found_after} | {one.false_alarms} | {len(one.cycles)} ({deployed}) "
            f"| {course} | {one.cpu_s:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--figures", action="store_true", help="measure overhead, errors and interventions")
    parser.add_argument("--shots", type=int, default=20)
    parser.add_argument("--good", type=int, default=500)
    parser.add_argument("--changed", type=int, default=1000)
    parser.add_argument("--exchanged", type=int, default=10, help="intents that exchange their meanings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    options = parser.parse_args()
    if options.figures:
        print_figures(days=10)
        return
    if options.data is None:
        parser.error("give the folder of clinc150, or --figures")
    world = make_world(
        options.data,
        shots=options.shots,
        good=options.good,
        changed=options.changed,
        exchanged=options.exchanged,
        seed=options.seed,
    )
    runs = []
    for name in options.only:
        if name == "adwin" and importlib.util.find_spec("river") is None:
            print("river is not installed: no ADWIN")
            continue
        runs.append(asyncio.run(run_variant(name, world, options.seed)))
        print("\n".join(rows(runs[-1:])), runs[-1].cycles, flush=True)
    print("\n".join(rows(runs)))
    print(f"refit on everything: {100 * asyncio.run(refit_accuracy(world)):.1f}")


if __name__ == "__main__":
    main()
