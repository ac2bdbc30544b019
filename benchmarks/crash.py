"""Kill a collecting and learning process repeatedly, and check for losses.

    python benchmarks/crash.py --kills 50 --seed 0

A child process collects turns with feedback and prints the id of each acknowledged turn. It also runs cycles
and rollbacks. SIGKILL ends it at a random moment. After each kill:

- the store has every acknowledged turn;
- the champion's files have the stored digest, and the next start serves them;
- the next start leaves no unfinished cycle, candidate folder or raw training lines;
- no worker process survives its parent.

Exit code 1 on any loss.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from karen_learner import AutonomousLearner, create_autonomous_learner
from karen_learner.errors import KarenLearnerError
from karen_learner.events import CycleFinished, Event, ModelRolledBack, StageStarted
from karen_learner.models.versions import verify

TENANT = "acme"
OVERRIDES = {
    "training.pipeline": str(Path(__file__).resolve().parent.parent / "tests" / "tiny.cfg"),
    "training.n_iter": 5,
    "training.min_updates": 0,
    "training.learn_rate": 0.1,
    "learning.min_data_threshold": 5,
    "learning.max_training_examples": 200,
    "learning.replay_examples": 200,
}
EARLIEST_S, LATEST_S = 0.2, 6.0
START_LIMIT_S = 600.0
ORPHAN_GRACE_S = 120.0
WORDS = ("red", "blue", "green", "grey", "pink", "gold", "black", "white", "brown", "cyan", "coral", "olive")


def texts(intent: str) -> list[dict[str, str]]:
    return [{"text": f"{intent} with {word} please", "intent": intent} for word in WORDS]


def print_line(*words: object) -> None:
    """Print a line in one write: SIGKILL may end the process at any moment."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def child(home: Path, seed: int) -> None:
    """Collect and learn until killed."""
    async with create_autonomous_learner(home, overrides=OVERRIDES) as learner:
        if await learner.store.champion(TENANT) is None:
            await learner.bootstrap(TENANT, [*texts("balance"), *texts("travel")])
        print_events(learner)
        collecting = asyncio.create_task(collect(learner, seed))
        await learner.trigger_learning_cycle(TENANT, force_training=True)  # starts the worker
        print_line("ready")
        await asyncio.gather(collecting, learn(learner, random.Random(seed)))


def print_events(learner: AutonomousLearner) -> None:
    events, pipeline = learner.events, learner.training_pipeline
    events.subscribe(lambda _: print_line("worker", pipeline.worker_pid), to=StageStarted)
    events.subscribe(print_status, to=CycleFinished)
    events.subscribe(lambda _: print_line("ended", "rolled_back"), to=ModelRolledBack)


def print_status(event: Event) -> None:
    if isinstance(event, CycleFinished):
        print_line("ended", event.result.status)


async def collect(learner: AutonomousLearner, seed: int) -> None:
    number = 0
    while True:
        turns = [f"s{seed}-{number + offset}" for offset in range(4)]
        number += 4
        corrected = {"corrected_intent": "travel", "satisfaction_score": 0.2}
        feedback = (corrected, {"satisfaction_score": 0.4}, {"response_quality": 0.1}, None)
        await asyncio.gather(*(collect_one(learner, *turn) for turn in zip(turns, feedback, strict=True)))
        await asyncio.sleep(0.05)


async def collect_one(learner: AutonomousLearner, turn_id: str, feedback: dict[str, Any] | None) -> None:
    await learner.collect_conversation_metadata(
        TENANT,
        f"travel plan {turn_id}",
        "Here you are.",
        f"user {turn_id}",
        feedback,
        turn_id=turn_id,
    )
    print_line("turn", turn_id)


async def learn(learner: AutonomousLearner, rng: random.Random) -> None:
    """Run cycles with new intents and corrections, and some rollbacks."""
    while True:
        try:
            drawn = rng.random()
            if drawn < 0.6:
                await learner.bootstrap(TENANT, texts(f"topic{rng.randrange(10**9)}"), mode="incremental")
            elif drawn < 0.85:
                await learner.trigger_learning_cycle(TENANT)
            else:
                await learner.rollback(TENANT)
        except KarenLearnerError as error:
            print_line("error", type(error).__name__)
        await asyncio.sleep(0.05)


@dataclass
class Totals:
    """Counts and losses over all kills."""

    kills: int = 0
    acknowledged: list[str] = field(default_factory=list)
    cycles: Counter[str] = field(default_factory=Counter)
    interrupted: int = 0
    lost_turns: int = 0
    without_champion: int = 0
    unfinished: int = 0
    leftovers: int = 0
    orphans: int = 0

    @property
    def is_clean(self) -> bool:
        return not (
            self.lost_turns or self.without_champion or self.unfinished or self.leftovers or self.orphans
        )

    def line(self) -> str:
        return (
            f"{self.kills:>5} {len(self.acknowledged):>7} {self.lost_turns:>5} "
            f"{self.cycles['deployed']:>9} {self.cycles['rolled_back']:>12} {self.interrupted:>12} "
            f"{self.without_champion:>17} {self.unfinished:>11} {self.leftovers:>9} {self.orphans:>8}"
        )


HEADER = (
    "kills   turns  lost  deployed  rolled back  interrupted  without champion  unfinished leftovers  orphans"
)


def kill_once(home: Path, seed: int, delay_s: float) -> list[list[str]]:
    """Start a child, kill it `delay_s` after it is ready, and return its complete lines."""
    command = [sys.executable, __file__, "--child", "--home", str(home), "--seed", str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    lines: list[bytes] = []
    ready = threading.Event()

    def read() -> None:
        for line in process.stdout or ():
            lines.append(line)
            if line == b"ready\n":
                ready.set()
        ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        if not ready.wait(START_LIMIT_S) or process.poll() is not None:
            raise RuntimeError(f"the child process did not start: {lines[-3:]}")
        time.sleep(delay_s)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    reader.join(ORPHAN_GRACE_S)  # a worker that outlives its parent may hold the pipe open
    return [line.decode().split() for line in lines if line.endswith(b"\n")]


async def examine(home: Path, totals: Totals) -> None:
    """Checks after the next start."""
    async with create_autonomous_learner(home, overrides=OVERRIDES) as learner:
        cycles = await learner.store.cycles(TENANT, limit=5)
        totals.interrupted += any(cycle.stage == "interrupted" for cycle in cycles[:1])
        totals.unfinished += len(await learner.store.unfinished_cycles(TENANT))
        left = list(leftovers(home))
        for path in left:
            print("left over:", path.relative_to(home))
        totals.leftovers += len(left)
        totals.without_champion += not await serves(learner)
        stored = {turn.turn_id async for turn in learner.store.turns(TENANT)}
        totals.lost_turns = len(set(totals.acknowledged) - stored)


async def serves(learner: AutonomousLearner) -> bool:
    """Whether the files of the live versions are whole, and the serving one answers."""
    status = await learner.status(TENANT)
    if status.champion is None or status.serving is None:
        print("there is no champion")
        return False
    try:
        for version in (status.champion, status.serving):  # a provisional version may serve
            verify(version.path, digest=version.digest)
    except KarenLearnerError as error:
        print(error)
        return False
    found = await learner.analyze(TENANT, "travel with red please")
    if found.model_version != status.serving.version:
        print(f"{found.model_version} answers, not {status.serving.version}")
    return found.model_version == status.serving.version and not found.degraded


def leftovers(home: Path) -> Iterator[Path]:
    yield from home.glob("models/*/.staging/*")
    yield from home.glob("corpus/*/*/*.jsonl")
    yield from home.glob("model_backups/*/*.partial")


def outlives(pid: int) -> bool:
    """Whether the process still runs after a grace period; zombies do not count."""
    deadline = time.monotonic() + ORPHAN_GRACE_S
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state in "ZX":
            return False
        time.sleep(0.05)
    return True


def run(home: Path, *, kills: int, seed: int) -> Totals:
    """Kill `kills` times, and check the home after each."""
    rng, totals = random.Random(seed), Totals()
    print(HEADER)
    for kill in range(1, kills + 1):
        lines = kill_once(home, seed * 1_000_000 + kill, rng.uniform(EARLIEST_S, LATEST_S))
        totals.kills = kill
        totals.acknowledged += [words[1] for words in lines if words[0] == "turn"]
        totals.cycles.update(words[1] for words in lines if words[0] == "ended")
        workers = {int(words[1]) for words in lines if words[0] == "worker" and words[1].isdecimal()}
        totals.orphans += sum(map(outlives, workers))
        asyncio.run(examine(home, totals))
        if kill % 10 == 0 or kill == kills:
            print(totals.line(), flush=True)
    return totals


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="home folder; default: temporary")
    parser.add_argument("--json", action="store_true", help="print the figures as a last line of JSON")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    if options.child:
        asyncio.run(child(options.home, options.seed))
    with tempfile.TemporaryDirectory() as folder:
        totals = run(options.home or Path(folder) / "home", kills=options.kills, seed=options.seed)
    print(
        f"{totals.kills} kill -9: {len(totals.acknowledged)} turns acknowledged, {totals.lost_turns} lost; "
        f"{totals.without_champion} starts without a loadable champion; "
        f"{'no losses' if totals.is_clean else 'LOSSES'}"
    )
    if options.json:
        figures = {name: value for name, value in vars(totals).items() if isinstance(value, int)}
        print(json.dumps({**figures, "turns": len(totals.acknowledged), "cycles": dict(totals.cycles)}))
    return 0 if totals.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
