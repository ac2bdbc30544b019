"""The orchestrator around an LLM that is slow, fails and lies: deadlines, added delay, and kills.

    python benchmarks/orchestrator.py --replies 3000 --kills 5

1. Delay: replies around an LLM that answers after 20 ms, alternating with the bare callable and with analysis
   and callable by hand. The delay that the middleware adds is told for both.
2. Faults: an LLM that hangs, ignores its cancellation, raises, or returns something else than a text. Each
   reply must come within its deadline.
3. Kills: a child process replies to messages, and SIGKILL ends it. Each acknowledged turn must be stored.

Exit code 1 if a reply is late or a turn is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from karen_learner import AutonomousLearner, create_autonomous_learner
from karen_learner.orchestrator import Orchestrator, Prompt
from karen_learner.orchestrator.collection import SpooledCollection
from karen_learner.orchestrator.replies import context_of

TENANT = "acme"
FAST = {
    "training.pipeline": str(Path(__file__).resolve().parent.parent / "tests" / "tiny.cfg"),
    "training.n_iter": 3,
    "training.min_updates": 0,
}
WORDS = ("red", "blue", "green", "grey", "pink", "gold", "black", "white", "brown", "cyan", "coral", "olive")
SEED = [
    {"text": phrase.format(word), "intent": intent}
    for intent, phrase in {"balance": "what is my balance {}", "travel": "a flight to {} please"}.items()
    for word in WORDS
]
LATENCY_S, DEADLINE_S, CALLERS, LATE_BY_S = 0.02, 0.5, 4, 0.1
GRACE_MS = 1.0


async def prompt_answer(_prompt: Prompt) -> str:
    await asyncio.sleep(LATENCY_S)
    return "Let me see."


async def faulty_answer(_prompt: Prompt) -> str | None:
    """Slow, deaf, failing, lying, or well."""
    kind = random.random()
    if kind < 0.2:
        await asyncio.sleep(60.0)
    if kind < 0.4:
        until = time.perf_counter() + 2.0
        while time.perf_counter() < until:
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue
    if kind < 0.6:
        raise ConnectionError
    return None if kind < 0.8 else "Your balance is a flight to Rome."


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


async def measure_delay(learner: AutonomousLearner, replies: int) -> None:
    """Bare callable, analysis and callable by hand, and the orchestrator, in alternation."""
    waits: dict[str, list[float]] = {"bare callable": [], "analysis and callable": [], "orchestrator": []}
    spooled: Counter[bool] = Counter()
    async with Orchestrator(learner, prompt_answer, deadline_s=10.0) as orchestrator:

        async def timed(name: str, text: str) -> None:
            started = time.perf_counter()
            if name == "orchestrator":
                spooled[(await orchestrator.reply(TENANT, text, user_id="u")).spooled] += 1
            else:
                context = ""
                if name != "bare callable":
                    context = context_of(await learner.analyze(TENANT, text))
                await prompt_answer(Prompt(context=context, user_text=text))
            waits[name].append(time.perf_counter() - started)

        async def caller(number: int) -> None:
            for at in range(number, replies, CALLERS):
                for name in waits:
                    await timed(name, f"what is my balance {WORDS[at % len(WORDS)]} {at}")

        await timed("orchestrator", "hello")
        for one in waits.values():
            one.clear()
        await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    print(f"{replies:,} replies of each kind by {CALLERS} callers, an LLM of {1e3 * LATENCY_S:.0f} ms")
    print(f"{'ms':24}{'p50':>9}{'p95':>9}{'p99':>9}")
    for name, found in waits.items():
        print(f"{name:24}" + "".join(f"{1e3 * quantile(found, share):9.2f}" for share in (0.5, 0.95, 0.99)))
    for name in ("bare callable", "analysis and callable"):
        added = [
            1e3 * (quantile(waits["orchestrator"], share) - quantile(waits[name], share))
            for share in (0.5, 0.95, 0.99)
        ]
        print(f"{'above ' + name:24}" + "".join(f"{one:9.2f}" for one in added))
    print(f"target: {GRACE_MS:g} ms at p99; committed before the reply: {spooled[True]:,} of {replies + 1:,}")


async def measure_faults(learner: AutonomousLearner, replies: int) -> int:
    """Replies around a faulty LLM; the number of late ones."""
    random.seed(0)
    waits, sources = [], Counter()
    async with Orchestrator(learner, faulty_answer, deadline_s=DEADLINE_S) as orchestrator:

        async def caller(number: int) -> None:
            for at in range(number, replies, CALLERS):
                started = time.perf_counter()
                reply = await orchestrator.reply(TENANT, f"what is my balance {at}", user_id="u")
                waits.append(time.perf_counter() - started)
                sources[f"{reply.source} ({reply.error})"] += 1

        await asyncio.gather(*(caller(number) for number in range(CALLERS)))
        await orchestrator.collection.drain()
        stored = orchestrator.collection.stored
    late = sum(wait > DEADLINE_S + LATE_BY_S for wait in waits)
    print(
        f"\n{replies:,} replies around a faulty LLM, deadline {DEADLINE_S:g} s: longest {max(waits):.3f} s, ",
        end="",
    )
    print(f"{late} late, {stored:,} turns stored")
    for name, count in sources.most_common():
        print(f"  {name:32}{count:6,}")
    return late


async def reply_until_killed(home: str) -> None:
    """The child: prints the id of each acknowledged turn, and whether it was committed."""
    learner = AutonomousLearner(home, overrides=FAST)
    async with learner, Orchestrator(learner, prompt_answer) as orchestrator:

        async def caller() -> None:
            while True:
                reply = await orchestrator.reply(TENANT, "what is my balance", user_id="u")
                print(json.dumps([reply.turn_id, reply.spooled]), flush=True)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def measure_kills(home: Path, kills: int) -> int:
    """Kill a replying process at random moments; the number of lost turns."""
    randomly, acknowledged = random.Random(0), []
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, __file__, "--child", str(home)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        await asyncio.sleep(randomly.uniform(0.2, 2.0))
        child.send_signal(signal.SIGKILL)
        lines += child.communicate()[0].splitlines(keepends=True)
        acknowledged += [json.loads(line) for line in lines if line.endswith("\n")]
    async with AutonomousLearner(home, overrides=FAST) as learner:
        async with SpooledCollection(learner, home / "spool") as collection:
            await collection.drain()
            replayed = collection.stored
        lost = Counter()
        for turn_id, spooled in acknowledged:
            lost[spooled] += await learner.store.get_turn(TENANT, turn_id) is None
    committed = sum(spooled for _, spooled in acknowledged)
    print(
        f"\n{kills} SIGKILLs: {len(acknowledged):,} replies, {committed:,} committed before the reply, ",
        end="",
    )
    print(f"{replayed:,} stored by the last start")
    print(f"lost: {lost[True]} of the committed, {lost[False]} of the others")
    return lost[True]


async def run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        home = Path(folder) / "home"
        async with create_autonomous_learner(home, overrides=FAST) as learner:
            await learner.bootstrap(TENANT, SEED)
            await measure_delay(learner, options.replies)
            late = await measure_faults(learner, options.replies // 10)
        return late + await measure_kills(home, options.kills)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--replies", type=int, default=3_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--folder", help="folder of the temporary home")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        asyncio.run(reply_until_killed(options.child))
    return 1 if asyncio.run(run(options)) else 0


if __name__ == "__main__":
    sys.exit(main())
