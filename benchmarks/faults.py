"""Faults made for real: found, mended and verified by the troubleshooter, or undone and escalated.

    python benchmarks/faults.py [--tmpfs]

Each row is one fault in a new copy of a small home. `--tmpfs` mounts a small file system for the full disk,
which needs the rights of root. `steps` counts examinations; the time between them is simulated.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from karen_learner import create_autonomous_learner
from karen_learner.autonomy.troubleshooter import AutomatedTroubleshooter
from karen_learner.events import Event, TrainingProgressed
from karen_learner.learner import AutonomousLearner
from karen_learner.records import Outcome, utc_now
from karen_learner.records.strategies import StrategyTally

ACME = "acme"
WORDS = ("red", "blue", "green", "grey", "pink", "gold", "black", "white", "brown", "cyan", "coral", "olive")
PHRASES = {
    "balance": "what is my balance {}",
    "travel": "a flight to {} please",
    "hello": "good morning {} you",
}
OVERRIDES: dict[str, Any] = {"learning.min_data_threshold": 10, "learning.refit_below": 0}
STEPS = 8

Fault = Callable[[AutonomousLearner], Awaitable[object]]


def gold() -> list[dict[str, str]]:
    return [
        {"text": phrase.format(word), "intent": name} for name, phrase in PHRASES.items() for word in WORDS
    ]


async def damaged_version(learner: AutonomousLearner) -> None:
    champion = (await learner.status(ACME)).champion
    assert champion is not None
    (champion.path / "meta.json").write_text("{}")


async def lost_version(learner: AutonomousLearner) -> None:
    shutil.rmtree(learner.layout.model_root)
    shutil.rmtree(learner.layout.backup_root)


async def killed_worker(learner: AutonomousLearner) -> None:
    kills = [1]

    async def kill(event: Event) -> None:
        pid = getattr(learner._backend, "pid", None)
        if isinstance(event, TrainingProgressed) and kills and pid:
            kills.clear()
            os.kill(pid, signal.SIGKILL)

    learner.events.subscribe(kill)
    await learner.trigger_learning_cycle(ACME, force_training=True, mode="full")


async def stalled_worker(learner: AutonomousLearner) -> object:
    await learner._backend.start()  # type: ignore[attr-defined]
    os.kill(learner._backend.pid, signal.SIGSTOP)  # type: ignore[attr-defined]
    running = asyncio.create_task(learner.trigger_learning_cycle(ACME, force_training=True, mode="full"))
    while (await learner.status(ACME)).running_cycle is None:
        await asyncio.sleep(0.02)
    return running


async def flipped_labels(learner: AutonomousLearner) -> None:
    """Every intent is corrected to the next one."""
    names = list(PHRASES)
    for batch in range(3):
        for word in WORDS:
            for at, name in enumerate(names):
                text = PHRASES[name].format(f"{word} number {batch} of {word * 2}")
                user, feedback = f"user {batch} {word} {name}", {"corrected_intent": names[at - 1]}
                await learner.collect_conversation_metadata(ACME, text, "ok", user, feedback)
        await learner.trigger_learning_cycle(ACME, force_training=True)


async def bloated_database(learner: AutonomousLearner) -> None:
    now, long = utc_now(), "x" * 990
    for _ in range(6):
        rows = [
            Outcome(known_at=now, source="accuracy", agent="a", predicted=long, actual=long)
            for _ in range(2_000)
        ]
        await learner.store.add_outcomes(ACME, rows)
    await learner.store.prune_outcomes(ACME, before=now + timedelta(days=1))


async def stale_model(learner: AutonomousLearner) -> None:
    for word in WORDS:
        text, feedback = f"send me to {word} island", {"corrected_intent": "travel"}
        await learner.collect_conversation_metadata(ACME, text, "ok", f"user {word}", feedback)


def attempts(successes: list[bool], strategy: str) -> Fault:
    async def fault(learner: AutonomousLearner) -> None:
        now = utc_now()
        names = ("llm", "template", "default")
        rows = [
            StrategyTally(kind="attempts", domain="billing", name=name, counts={"success": 1.0}, at=now)
            for name in names
        ]
        await learner.store.add_strategy_tallies(ACME, rows, half_life_s=86_400.0)
        await learner.store.add_outcomes(
            ACME, [attempt(now, at, strategy, ok) for at, ok in enumerate(successes)]
        )

    return fault


def attempt(now: Any, at: int, strategy: str, success: bool) -> Outcome:
    return Outcome(
        known_at=now + timedelta(milliseconds=at), source="agent_run", agent="planner", strategy=strategy,
        domain="billing", success=success,
    )  # fmt: skip


async def full_disk(learner: AutonomousLearner) -> None:
    """Corpora of old cycles fill the file system."""
    folder = learner.layout.corpus(ACME, "20200101T000000-00000000")
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(learner.layout.home).free
    (folder / "corpus.spacy").write_bytes(b"x" * max(0, free - 2_000_000))
    os.utime(folder, (0, 0))


async def recover(learner: AutonomousLearner, now: Any) -> None:
    """Other strategies succeed."""
    await learner.store.add_outcomes(ACME, [attempt(now, at, "template", True) for at in range(30)])


async def fail_on(learner: AutonomousLearner, now: Any) -> None:
    """All strategies fail."""
    await learner.store.add_outcomes(ACME, [attempt(now, at, "template", False) for at in range(30)])


ROWS: dict[str, tuple[str, Fault, dict[str, float], Any]] = {
    "a file of the live model is overwritten": ("damaged_version", damaged_version, {"minutes": 1}, None),
    "models and backups are deleted": ("damaged_version", lost_version, {"minutes": 1}, None),
    "the worker is killed (SIGKILL)": ("memory_exhausted", killed_worker, {"minutes": 1}, None),
    "the worker is stopped (SIGSTOP)": ("stalled_cycle", stalled_worker, {"minutes": 40}, None),
    "three batches of flipped labels": ("repeated_rejections", flipped_labels, {"minutes": 1}, None),
    "12,000 large rows are deleted": ("bloated_database", bloated_database, {"minutes": 1}, None),
    "no training for 31 days": ("stale_model", stale_model, {"days": 31}, None),
    "seven failures in a row": (
        "consecutive_failures", attempts([True] * 9 + [False] * 7, "llm"), {"minutes": 1}, recover,
    ),
    "a strategy fails always": ("low_success_rate", attempts([False] * 40, "llm"), {"minutes": 1}, recover),
    "every strategy fails always": ("low_success_rate", attempts([False] * 40, "llm"), {"hours": 2}, fail_on),
}  # fmt: skip


async def run(name: str, template: Path, home: Path) -> str:
    diagnosis, fault, first, later = ROWS[name]
    shutil.copytree(template, home, dirs_exist_ok=True)
    overrides = {**OVERRIDES, "troubleshooter.diagnoses": [diagnosis]}
    began = time.process_time()
    async with create_autonomous_learner(home, overrides=overrides) as learner:
        now = utc_now()
        made = AutomatedTroubleshooter(learner, tenant_id=ACME, clock=lambda: now)
        await made.start()
        waiting = await fault(learner)
        step, incident = 0, None
        while step < STEPS:
            step += 1
            now += timedelta(**first)
            await made.tick(now)
            [incident] = await made.incidents() or [None]
            if incident is not None and incident.state in ("resolved", "escalated"):
                break
            if later is not None:
                await later(learner, now)
            first = first if later is fail_on else {"minutes": 10}
        if isinstance(waiting, asyncio.Task):
            await waiting
        await made.stop()
    if incident is None:
        return f"| {name} | {diagnosis} | not found | | | {step} |"
    tried = ", ".join(incident.attempts) or "none"
    undone = ", ".join(entry.text for entry in incident.story if entry.kind == "undo") or "-"
    seconds = time.process_time() - began
    return f"| {name} | {diagnosis} | {incident.state} | {tried} | {undone} | {step} | {seconds:.1f} |"


async def main(tmpfs: bool) -> None:
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template"
        async with create_autonomous_learner(template, overrides=OVERRIDES) as learner:
            await learner.bootstrap(ACME, gold())
        print("| fault | found as | end | remedies | undone | steps | CPU s |\n|---|---|---|---|---|---|---|")
        for number, name in enumerate(ROWS):
            print(await run(name, template, Path(folder) / f"home{number}"), flush=True)
        if tmpfs:
            place = Path(folder) / "small"
            place.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], check=True)
            try:
                name = "old corpora fill a file system of 64 MB"
                ROWS[name] = ("disk_low", full_disk, {"days": 40}, None)
                print(await run(name, template, place / "home"), flush=True)
            finally:
                subprocess.run(["umount", str(place)], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--tmpfs", action="store_true", help="also fill a small file system; needs root")
    asyncio.run(main(parser.parse_args().tmpfs))
