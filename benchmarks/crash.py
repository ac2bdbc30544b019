"""Kill a process that collects and learns, again and again, and look for what it lost.

    python benchmarks/crash.py --kills 50 --seed 0

A child process collects turns with feedback, printing the id of each turn once it has been acknowledged,
while it runs learning cycles and rollbacks. It is killed with SIGKILL at a random moment. Then, each time:

- every turn that was ever acknowledged must be in the store;
- the champion's row must name files with the right digest, and the next start must serve them;
- no cycle may be left unfinished by the next start, nor a candidate or raw training lines on the disk;
- no worker process may outlive its parent.

Exits with 1 on any loss.
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
    "gate.max_cross_validated": 0,
}
EARLIEST_S, LATEST_S = 0.2, 6.0
START_LIMIT_S = 600.0
ORPHAN_GRACE_S = 120.0
WORDS = ("red", "blue", "green", "grey", "pink", "gold", "black", "white", "brown", "cyan", "coral", "olive")


# The child ----------------------------------------------------------------------------------------


def texts(intent: str) -> list[dict[str, str]]:
    return [{"text": f"{intent} with {word} please", "intent": intent} for word in WORDS]


def say(*words: object) -> None:
    """One whole line at once: the parent may end this process at any moment."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def child(home: Path, seed: int) -> None:
    """Collect and learn until the end."""
    async with create_autonomous_learner(home, overrides=OVERRIDES) as learner:
        if await learner.store.champion(TENANT) is None:
            await learner.bootstrap(TENANT, [*texts("balance"), *texts("travel")])
        announce(learner)
        collecting = asyncio.create_task(collect(learner, seed))
        await learner.trigger_learning_cycle(TENANT, force_training=True)  # the worker is warm afterwards
        say("ready")
        await asyncio.gather(collecting, learn(learner, random.Random(seed)))


def announce(learner: AutonomousLearner) -> None:
    events, pipeline = learner.events, learner.training_pipeline
    events.subscribe(lambda _: say("worker", pipeline.worker_pid), to=StageStarted)
    events.subscribe(say_how_it_ended, to=CycleFinished)
    events.subscribe(lambda _: say("ended", "rolled_back"), to=ModelRolledBack)


def say_how_it_ended(event: Event) -> None:
    if isinstance(event, CycleFinished):
        say("ended", event.result.status)


async def collect(learner: AutonomousLearner, seed: int) -> None:
    number = 0
    while True:
        turns = [f"s{seed}-{number + offset}" for offset in range(4)]
        number += 4
        corrected = {"corrected_intent": "travel", "satisfaction_score": 0.2}
        said = (corrected, {"satisfaction_score": 0.4}, {"response_quality": 0.1}, None)
        await asyncio.gather(*(collect_one(learner, *turn) for turn in zip(turns, said, strict=True)))
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
    say("turn", turn_id)


async def learn(learner: AutonomousLearner, rng: random.Random) -> None:
    """New intents, corrections, and now and then a step back."""
    while True:
        try:
            act = rng.random()
            if act < 0.6:
                await learner.bootstrap(TENANT, texts(f"topic{rng.randrange(10**9)}"), mode="incremental")
            elif act < 0.85:
                await learner.trigger_learning_cycle(TENANT)
            else:
                await learner.rollback(TENANT)
        except KarenLearnerError as error:
            say("refused", type(error).__name__)
        await asyncio.sleep(0.05)


# The parent ---------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What was seen, and what was lost, over all kills."""

    kills: int = 0
    acknowledged: list[str] = field(default_factory=list)
    cycles: Counter[str] = field(default_factory=Counter)
    interrupted: int = 0
    lost_turns: int = 0
    without_champion: int = 0
    unfinished: int = 0
    rubbish: int = 0
    orphans: int = 0

    @property
    def is_clean(self) -> bool:
        return not (
            self.lost_turns or self.without_champion or self.unfinished or self.rubbish or self.orphans
        )

    def line(self) -> str:
        return (
            f"{self.kills:>5} {len(self.acknowledged):>7} {self.lost_turns:>5} "
            f"{self.cycles['deployed']:>9} {self.cycles['rolled_back']:>12} {self.interrupted:>12} "
            f"{self.without_champion:>17} {self.unfinished:>11} {self.rubbish:>8} {self.orphans:>8}"
        )


HEADER = (
    "kills   turns  lost  deployed  rolled back  interrupted  without champion  unfinished  rubbish  orphans"
)


def kill_once(home: Path, seed: int, delay_s: float) -> list[list[str]]:
    """Start a child, kill it `delay_s` after it is up, and return the words of each whole line it said."""
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
            raise RuntimeError(f"the child did not come up: {lines[-3:]}")
        time.sleep(delay_s)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    reader.join(ORPHAN_GRACE_S)  # a worker that outlives its parent may hold the pipe open
    return [line.decode().split() for line in lines if line.endswith(b"\n")]


async def examine(home: Path, tally: Tally) -> None:
    """The next start, as an operator would see it."""
    async with create_autonomous_learner(home, overrides=OVERRIDES) as learner:
        rows = await learner.store.cycles(TENANT, limit=5)
        tally.interrupted += any(row.stage == "interrupted" for row in rows[:1])
        tally.unfinished += len(await learner.store.unfinished_cycles(TENANT))
        tally.rubbish += sum(1 for _ in rubbish(home))
        tally.without_champion += not await serves(learner)
        stored = {turn.turn_id async for turn in learner.store.turns(TENANT)}
        tally.lost_turns = len(set(tally.acknowledged) - stored)


async def serves(learner: AutonomousLearner) -> bool:
    champion = (await learner.status(TENANT)).champion
    if champion is None:
        print("there is no champion")
        return False
    try:
        verify(champion.path, digest=champion.digest)
    except KarenLearnerError as error:
        print(error)
        return False
    found = await learner.analyze(TENANT, "travel with red please")
    return found.model_version == champion.version and not found.degraded


def rubbish(home: Path) -> Iterator[Path]:
    yield from home.glob("models/*/.staging/*")
    yield from home.glob("corpus/*/*/*.jsonl")
    yield from home.glob("model_backups/*/*.partial")


def outlives(pid: int) -> bool:
    """Whether the process is still there after a grace; zombies are not."""
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


def run(home: Path, *, kills: int, seed: int) -> Tally:
    """Kill `kills` times, examining the home after each."""
    rng, tally = random.Random(seed), Tally()
    print(HEADER)
    for kill in range(1, kills + 1):
        said = kill_once(home, seed * 1_000_000 + kill, rng.uniform(EARLIEST_S, LATEST_S))
        tally.kills = kill
        tally.acknowledged += [words[1] for words in said if words[0] == "turn"]
        tally.cycles.update(words[1] for words in said if words[0] == "ended")
        workers = {int(words[1]) for words in said if words[0] == "worker" and words[1].isdecimal()}
        tally.orphans += sum(map(outlives, workers))
        asyncio.run(examine(home, tally))
        if kill % 10 == 0 or kill == kills:
            print(tally.line(), flush=True)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="default: a folder that is removed at the end")
    parser.add_argument("--json", action="store_true", help="a last line of JSON with the figures")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    if options.child:
        asyncio.run(child(options.home, options.seed))
    with tempfile.TemporaryDirectory() as folder:
        tally = run(options.home or Path(folder) / "home", kills=options.kills, seed=options.seed)
    print(
        f"{tally.kills} kill -9: {len(tally.acknowledged)} turns acknowledged, {tally.lost_turns} lost; "
        f"{tally.without_champion} times without a loadable champion; "
        f"{'nothing was lost' if tally.is_clean else 'SOMETHING WAS LOST'}"
    )
    if options.json:
        figures = {name: value for name, value in vars(tally).items() if isinstance(value, int)}
        print(json.dumps({**figures, "turns": len(tally.acknowledged), "cycles": dict(tally.cycles)}))
    return 0 if tally.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
