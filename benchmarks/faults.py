"""Faults made for real: found, mended and verified by the troubleshooter, or undone and escalated.

    python benchmarks/faults.py [--tmpfs] [--only DIAGNOSIS ...]

Each row is one fault in a new copy of a small home. `--tmpfs` mounts a small file system for the full disk,
which needs the rights of root. `steps` counts examinations; the time between them is simulated. Where
`then` is not empty, the world goes on between two examinations: other attempts, turns, or cycles.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from karen_learner import AutonomousLearner, create_autonomous_learner
from karen_learner.autonomy.stream.part import StreamPart
from karen_learner.autonomy.troubleshooter import AutomatedTroubleshooter
from karen_learner.events import Event, TrainingProgressed
from karen_learner.monitoring.readings import Readings
from karen_learner.records import Outcome, Verdict, utc_now
from karen_learner.records.incidents import Incident
from karen_learner.records.strategies import StrategyTally

ACME = "acme"
WORDS = ("red", "blue", "green", "grey", "pink", "gold", "black", "white", "brown", "cyan", "coral", "olive")
PHRASES = {
    "balance": "what is my balance {}",
    "travel": "a flight to {} please",
    "hello": "good morning {} you",
}
OVERRIDES: dict[str, Any] = {"learning.min_data_threshold": 10, "learning.refit_below": 0}
STEPS = 12


class NoGates:
    """A gate of a host that accepts each candidate."""

    async def judge(self, _evidence: Any) -> Verdict:
        return Verdict(accepted=True, harmful=False, improved=(), checks=())


@dataclass
class Ward:
    """A learner with a troubleshooter, under a simulated clock."""

    learner: AutonomousLearner
    now: datetime
    troubleshooter: AutomatedTroubleshooter = field(init=False)
    stream: StreamPart | None = None
    rubbish: list[Any] = field(default_factory=list)

    async def restart(self, diagnosis: str) -> None:
        self.learner.settings.troubleshooter.update({"diagnoses": [diagnosis]})
        readings = Readings(self.learner.store, self.learner.layout, self.learner.settings)
        self.troubleshooter = AutomatedTroubleshooter(
            self.learner, tenant_id=ACME, readings=readings.refresh, stream=self.stream,
            clock=lambda: self.now,
        )  # fmt: skip
        await self.troubleshooter.start()

    async def add(self, **values: Any) -> None:
        """Store 30 outcomes that end now."""
        known: dict[str, Any] = {"source": "agent_run", "agent": "planner"}
        rows = [
            Outcome(**(known | values), known_at=self.now + timedelta(milliseconds=at)) for at in range(30)
        ]
        await self.learner.store.add_outcomes(ACME, rows)

    async def measured(self, **values: Any) -> None:
        """Store 30 outcomes of the version that serves."""
        champion = (await self.learner.status(ACME)).champion
        await self.add(version=None if champion is None else champion.version, **values)

    async def turns(self, texts: list[tuple[str, str]], *, occurred_at: datetime | None = None) -> None:
        """Turns of as many people, each with the corrected intent."""
        for number, (text, intent) in enumerate(texts):
            feedback = {"corrected_intent": intent} if intent else None
            await self.learner.collect_conversation_metadata(
                ACME, text, "ok", f"user {number}", feedback, occurred_at=occurred_at
            )

    async def learn(self, mode: Any = "auto") -> None:
        await self.learner.trigger_learning_cycle(ACME, force_training=True, mode=mode)


Act = Callable[[Ward], Awaitable[object]]


@dataclass(frozen=True)
class Fault:
    """`make` makes the problem `diagnosis`, which is examined after `first`. `then` acts after each step.

    `is_new`: the home has no tenant before.
    """

    diagnosis: str
    make: Act
    first: Mapping[str, float] = field(default_factory=lambda: {"minutes": 1})
    then: Act | None = None
    step: Mapping[str, float] = field(default_factory=lambda: {"minutes": 10})
    overrides: Mapping[str, Any] = field(default_factory=dict)
    steps: int = STEPS
    gate: NoGates | None = None
    is_new: bool = False


def gold() -> list[dict[str, str]]:
    return [
        {"text": phrase.format(word), "intent": name} for name, phrase in PHRASES.items() for word in WORDS
    ]


# Versions and models ------------------------------------------------------------------------------


async def champion_path(ward: Ward) -> Path:
    champion = (await ward.learner.status(ACME)).champion
    if champion is None:
        raise SystemExit("the home has no champion")
    return champion.path


async def damaged_version(ward: Ward) -> None:
    (await champion_path(ward) / "meta.json").write_text("{}")


async def lost_version(ward: Ward) -> None:
    shutil.rmtree(ward.learner.layout.model_root)
    shutil.rmtree(ward.learner.layout.backup_root)


async def unloadable(ward: Ward) -> None:
    await lost_version(ward)
    await ward.learner.analyze(ACME, "what is my balance")


async def collapsed_label(ward: Ward) -> None:
    """An increment without replay on texts of one intent with the label of another."""
    texts = [(f"good morning {word} you {other}", "travel") for word in WORDS for other in WORDS[:6]]
    await ward.turns(texts)
    await ward.learn("incremental")


# Training -----------------------------------------------------------------------------------------


async def killed_worker(ward: Ward) -> None:
    kills = [1]

    async def kill(event: Event) -> None:
        pid = getattr(ward.learner._backend, "pid", None)
        if isinstance(event, TrainingProgressed) and kills and pid:
            kills.clear()
            os.kill(pid, signal.SIGKILL)

    end = ward.learner.events.subscribe(kill)
    await ward.learn("full")
    end()


async def thrice_killed_worker(ward: Ward) -> None:
    for _ in range(3):
        await killed_worker(ward)


async def stalled_worker(ward: Ward) -> object:
    backend: Any = ward.learner._backend
    await backend.start()
    os.kill(backend.pid, signal.SIGSTOP)
    running = asyncio.create_task(ward.learn("full"))
    while (await ward.learner.status(ACME)).running_cycle is None:
        await asyncio.sleep(0.02)
    return running


async def diverging(ward: Ward) -> None:
    """A full training of spaCy's own pipes with a far too high learn rate."""
    await ward.learn("full")


async def flipped_labels(ward: Ward) -> None:
    """Every intent is corrected to the next one."""
    names = list(PHRASES)
    for batch in range(3):
        for word in WORDS:
            for at, name in enumerate(names):
                text = PHRASES[name].format(f"{word} number {batch} of {word * 2}")
                user, feedback = f"user {batch} {word} {name}", {"corrected_intent": names[at - 1]}
                await ward.learner.collect_conversation_metadata(ACME, text, "ok", user, feedback)
        await ward.learn()


async def two_rollbacks(ward: Ward) -> None:
    for number in range(2):
        await ward.turns([(f"what is my balance {word} now {number}", "balance") for word in WORDS])
        await ward.learn()
        await ward.learner.rollback(ACME)


async def stale_model(ward: Ward) -> None:
    await ward.turns([(f"send me to {word} island", "travel") for word in WORDS])


async def other_words(ward: Ward) -> None:
    """150 turns like the gold, then 150 of other words that people correct."""
    usual = [(f"{PHRASES[name].format(word)} {at}", "") for name in PHRASES for word in WORDS
             for at in range(5)]  # fmt: skip
    await ward.turns(usual[:150], occurred_at=ward.now - timedelta(days=2))
    changed = [(f"book the {word} cruise via {other} harbour", "travel") for word in WORDS for other in WORDS]
    await ward.turns([*changed, *changed[:6]], occurred_at=ward.now)


async def few_of_one_label(ward: Ward) -> None:
    texts = [{"text": f"a flight to {word} {other} please", "intent": "travel"} for word in WORDS
             for other in WORDS[:5]]  # fmt: skip
    rare = [{"text": f"cancel my card {word}", "intent": "cancel"} for word in WORDS[:3]]
    await ward.learner.bootstrap(ACME, [*gold(), *texts, *rare], replace=True)


async def little_gold(ward: Ward) -> None:
    await ward.learner.bootstrap(ACME, gold()[::2])


# Attempts -----------------------------------------------------------------------------------------


def attempts(successes: list[bool], strategy: str) -> Act:
    async def fault(ward: Ward) -> None:
        names = ("llm", "template", "default")
        rows = [
            StrategyTally(kind="attempts", domain="billing", name=name, counts={"success": 1.0}, at=ward.now)
            for name in names
        ]
        await ward.learner.store.add_strategy_tallies(ACME, rows, half_life_s=86_400.0)
        outcomes = [attempt(ward.now, at, strategy, ok) for at, ok in enumerate(successes)]
        await ward.learner.store.add_outcomes(ACME, outcomes)

    return fault


def attempt(now: Any, at: int, strategy: str, success: bool) -> Outcome:
    return Outcome(
        known_at=now + timedelta(milliseconds=at), source="agent_run", agent="planner", strategy=strategy,
        domain="billing", success=success,
    )  # fmt: skip


async def succeed(ward: Ward) -> None:
    """Other strategies succeed."""
    await ward.add(strategy="template", domain="billing", success=True)


async def fail_on(ward: Ward) -> None:
    """All strategies fail."""
    await ward.add(strategy="template", domain="billing", success=False)


async def slow_calls(ward: Ward) -> None:
    """30 concurrent calls, each of which takes more than five seconds."""

    async def call() -> float:
        started = time.perf_counter()
        await asyncio.sleep(5.1)
        return 1000.0 * (time.perf_counter() - started)

    times = await asyncio.gather(*(call() for _ in range(30)))
    await ward.add(success=True, duration_ms=min(times))


async def quick_calls(ward: Ward) -> None:
    started = time.perf_counter()
    await ward.learner.analyze_many(ACME, [text["text"] for text in gold()])
    await ward.add(success=True, duration_ms=1000.0 * (time.perf_counter() - started))


# Home and stream ----------------------------------------------------------------------------------


async def bloated_database(ward: Ward) -> None:
    now, long = utc_now(), "x" * 990
    for _ in range(6):
        rows = [
            Outcome(known_at=now, source="accuracy", agent="a", predicted=long, actual=long)
            for _ in range(2_000)
        ]
        await ward.learner.store.add_outcomes(ACME, rows)
    await ward.learner.store.prune_outcomes(ACME, before=now + timedelta(days=1))


async def full_disk(ward: Ward) -> None:
    """Corpora of old cycles fill the file system."""
    await fill(ward, shutil.disk_usage(ward.learner.layout.home).free - 2_000_000, 0)


async def fill(ward: Ward, size: int, number: int) -> None:
    folder = ward.learner.layout.corpus(ACME, f"20200101T0000{number:02}-00000000")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corpus.spacy").write_bytes(b"x" * max(0, size))
    os.utime(folder, (0, 0))


async def filling_disk(ward: Ward) -> None:
    """Old corpora of 5 MB a day, for ten days."""
    for number in range(10):
        await fill(ward, 5_000_000, number)
        ward.now += timedelta(days=1)
        await ward.troubleshooter.tick(ward.now)


async def growing_memory(ward: Ward) -> None:
    """The process keeps 20 MB more a day, for ten days."""
    for _ in range(10):
        ward.rubbish.append(bytearray(os.urandom(1)) * 20_000_000)
        ward.now += timedelta(days=1)
        await ward.troubleshooter.tick(ward.now)


async def more_memory(ward: Ward) -> None:
    ward.rubbish.append(bytearray(os.urandom(1)) * 20_000_000)


def course(make: Callable[[int], Mapping[str, Any]]) -> Act:
    """Outcomes of up to ten days whose measure changes from day to day, until there is an incident."""

    async def fault(ward: Ward) -> None:
        at = 0
        while at < 100 and not await ward.troubleshooter.incidents():
            await ward.measured(**make(at))
            ward.now += timedelta(hours=2.4)
            at += 1
            await ward.troubleshooter.tick(ward.now)

    return fault


def less_accurate(at: int) -> Mapping[str, Any]:
    return {"source": "accuracy", "score": 0.97 - 0.0018 * at}


def slower(at: int) -> Mapping[str, Any]:
    return {"success": True, "duration_ms": 500.0 + 35.0 * at}


async def accurate(ward: Ward) -> None:
    for _ in range(10):
        await ward.measured(source="accuracy", score=0.97)


async def quick(ward: Ward) -> None:
    for _ in range(10):
        await ward.measured(success=True, duration_ms=500.0)


def brokers(pipe: Any) -> None:
    """A cluster in a process of its own. It ends with the pipe."""
    from confluent_kafka import Producer

    producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    found = producer.list_topics(timeout=30).brokers.values()
    pipe.send(",".join(f"{one.host}:{one.port}" for one in found))
    pipe.recv()


async def with_stream(ward: Ward) -> multiprocessing.Process:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=brokers, args=(theirs,), daemon=True)
    process.start()
    servers = await asyncio.to_thread(ours.recv)
    fast = {"session.timeout.ms": 6_000, "socket.timeout.ms": 1_500, "reconnect.backoff.max.ms": 500}
    ward.learner.settings.stream.update(
        {"servers": servers, "topic": "outcomes", "tenant": ACME, "kafka": fast, "max_waiting": 500_000}
    )
    ward.rubbish.append((ours, process))
    ward.stream = StreamPart(ward.learner)
    await ward.stream.start()
    await until(lambda: ward.stream is not None and ward.stream.get_metrics()["source"]["connected"])
    await ward.restart("stream_down")
    return process


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.05)


async def gone_broker(ward: Ward) -> None:
    process = await with_stream(ward)
    os.kill(process.pid or 0, signal.SIGSTOP)
    stream = ward.stream
    await until(lambda: stream is not None and not stream.get_metrics()["source"]["connected"])


async def broker_again(ward: Ward) -> None:
    """The broker continues, and the consumer has some seconds."""
    _, process = ward.rubbish[0]
    os.kill(process.pid, signal.SIGCONT)
    stream = ward.stream
    await until(lambda: stream is not None and stream.get_metrics()["source"].get("connected", False))


async def backlog(ward: Ward) -> None:
    """12,000 events wait in the inbox, because their processing has stopped."""
    await with_stream(ward)
    stream = ward.stream
    if stream is None or stream._work is None:
        return
    stream._work.cancel()
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": ward.learner.settings.stream.servers, "log_level": 0,
                         "queue.buffering.max.messages": 50_000})  # fmt: skip
    content = json.dumps({"agent_name": "llm", "success": True}).encode()
    for _ in range(12_000):
        producer.produce("outcomes", content)
    await asyncio.to_thread(producer.flush, 60)
    await until(lambda: stream.get_metrics()["waiting"] >= 12_000)


async def wait_for_stream(ward: Ward) -> None:
    stream = ward.stream
    await until(lambda: stream is not None and stream.get_metrics()["waiting"] == 0)


FAULTS: dict[str, Fault] = {
    "a file of the live model is overwritten": Fault("damaged_version", damaged_version),
    "models and backups are deleted": Fault("damaged_version", lost_version),
    "the live model cannot be loaded": Fault("degraded_mode", unloadable),
    "an increment without replay on flipped labels": Fault(
        "label_collapse", collapsed_label, overrides={"learning.replay_examples": 0}, gate=NoGates()
    ),
    "the worker is stopped (SIGSTOP)": Fault("stalled_cycle", stalled_worker, {"minutes": 40}),
    "the worker is killed (SIGKILL)": Fault("memory_exhausted", killed_worker),
    "a learn rate of 1e38": Fault(
        "divergence", diverging, overrides={"training.pipeline": "stock", "training.learn_rate": 1e38}
    ),
    "the worker is killed in three cycles": Fault(
        "failing_cycles", thrice_killed_worker, then=lambda ward: ward.learn("full")
    ),
    "three batches of flipped labels": Fault("repeated_rejections", flipped_labels),
    "two versions are rolled back": Fault(
        "repeated_rollbacks", two_rollbacks, gate=NoGates(), step={"days": 1}
    ),
    "seven failures in a row": Fault(
        "consecutive_failures", attempts([True] * 9 + [False] * 7, "llm"), then=succeed
    ),
    "a strategy fails always": Fault("low_success_rate", attempts([False] * 40, "llm"), then=succeed),
    "every strategy fails always": Fault(
        "low_success_rate", attempts([False] * 40, "llm"), then=fail_on, step={"hours": 2}
    ),
    "150 turns of other words": Fault("drift", other_words),
    "no training for 31 days": Fault("stale_model", stale_model, {"days": 31}),
    "three texts of an intent, 72 of another": Fault("label_imbalance", few_of_one_label),
    "18 gold texts": Fault("small_judging_set", little_gold, is_new=True),
    "calls take five seconds, then less": Fault("slow_analysis", slow_calls, then=quick_calls),
    "calls take five seconds": Fault("slow_analysis", slow_calls, then=slow_calls, step={"hours": 2}),
    "12,000 large rows are deleted": Fault("bloated_database", bloated_database),
    "the broker is stopped (SIGSTOP), then continues": Fault("stream_down", gone_broker, then=broker_again),
    "the broker is stopped (SIGSTOP)": Fault("stream_down", gone_broker),
    "12,000 events wait": Fault("stream_down", backlog, then=wait_for_stream),
    "the accuracy falls by 1.8 points a day": Fault(
        "accuracy_forecast", course(less_accurate), then=accurate, step={"hours": 6}, steps=40
    ),
    "calls take 350 ms more each day": Fault(
        "latency_forecast", course(slower), then=quick, step={"hours": 6}, steps=40
    ),
    "the process keeps 20 MB more each day": Fault(
        "memory_forecast", growing_memory, then=more_memory, step={"days": 1}
    ),
}
ON_TMPFS: dict[str, Fault] = {
    "old corpora fill a file system of 64 MB": Fault("disk_low", full_disk, {"days": 40}),
    "old corpora of 5 MB a day": Fault("disk_forecast", filling_disk, step={"days": 1}),
}


async def run(name: str, fault: Fault, template: Path, home: Path) -> str:
    if not fault.is_new:
        await asyncio.to_thread(shutil.copytree, template, home, dirs_exist_ok=True)
    began = time.process_time()
    overrides = {**OVERRIDES, **fault.overrides, "troubleshooter.interval_s": 1.0}
    async with create_autonomous_learner(home, overrides=overrides, gate=fault.gate) as learner:
        ward = Ward(learner, utc_now())
        await ward.restart(fault.diagnosis)
        try:
            waiting = await fault.make(ward)
            step, incident = await examine(ward, fault)
            if isinstance(waiting, asyncio.Task):
                await waiting
        finally:
            await ward.troubleshooter.stop()
            if ward.stream is not None:
                _, process = ward.rubbish[0]
                os.kill(process.pid, signal.SIGCONT)
                await ward.stream.stop()
                process.kill()
    if incident is None:
        return f"| {name} | {fault.diagnosis} | not found | | | {step} | |"
    tried = ", ".join(incident.attempts) or "none"
    undone = ", ".join(entry.text for entry in incident.story if entry.kind == "undo") or "-"
    seconds = time.process_time() - began
    return f"| {name} | {fault.diagnosis} | {incident.state} | {tried} | {undone} | {step} | {seconds:.1f} |"


async def examine(ward: Ward, fault: Fault) -> tuple[int, Incident | None]:
    """Examine until the incident has ended, or people decide."""
    incident, time_to = None, fault.first
    for step in range(1, fault.steps + 1):
        ward.now += timedelta(**time_to)
        await ward.troubleshooter.tick(ward.now)
        incident = next(iter(await ward.troubleshooter.incidents()), None)
        if incident is not None and incident.state in ("resolved", "escalated"):
            return step, incident
        if fault.then is not None:
            await fault.then(ward)
        time_to = fault.step
    return fault.steps, incident


async def main(tmpfs: bool, only: list[str]) -> None:
    logging.disable(logging.ERROR)
    faults = {name: one for name, one in FAULTS.items() if not only or one.diagnosis in only}
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template"
        async with create_autonomous_learner(template, overrides=OVERRIDES) as learner:
            await learner.bootstrap(ACME, gold())
        print("| fault | found as | end | remedies | undone | steps | CPU s |\n|---|---|---|---|---|---|---|")
        for number, (name, fault) in enumerate(faults.items()):
            print(await run(name, fault, template, Path(folder) / f"home{number}"), flush=True)
        for number, (name, fault) in enumerate(ON_TMPFS.items() if tmpfs else ()):
            place = Path(folder) / f"small{number}"
            place.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], check=True)
            try:
                print(await run(name, fault, template, place / "home"), flush=True)
            finally:
                subprocess.run(["umount", str(place)], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tmpfs", action="store_true", help="also fill a small file system; needs root")
    parser.add_argument("--only", nargs="*", default=[], help="names of diagnoses")
    options = parser.parse_args()
    asyncio.run(main(options.tmpfs, options.only))
