"""The effect of a deployment, measured with a holdback through the learner, beside its true effect.

    python benchmarks/holdback.py DATA/clinc150 [--intents 40] [--users 300] [--turns 3000] [--share 0.2]

A tenant learns five texts of each intent, then fifteen. Users ask texts that no version has learned. Half of
the turns get their label as feedback. Between both windows of a week the second version is deployed, and a
share of the users keeps the first. The autonomous part opens and measures the ticket. `true` is the
difference of both versions on all asked texts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from time import perf_counter

from karen_learner import AutonomousLearner, create_autonomous_learner, create_spacy_analyzer
from karen_learner.autonomy.improvement_part import ImprovementPart
from karen_learner.improvement import ImprovementTracker
from karen_learner.records import ModelVersion

TENANT = "bench"
WINDOW_DAYS = 7
START = datetime(2026, 1, 5, tzinfo=timezone.utc)
FEEDBACK = 0.5
Text = tuple[str, str]


class Clock:
    """The time of the simulation."""

    now = START

    def __call__(self) -> datetime:
        return self.now


def read(folder: Path, intents: int, seed: int) -> dict[str, list[str]]:
    """The texts of some intents, in random order."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (folder / "train.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        found[row["intent"]].append(row["text"])
    rng = random.Random(seed)
    chosen = {name: found[name] for name in rng.sample(sorted(found), intents)}
    for texts in chosen.values():
        rng.shuffle(texts)
    return chosen


def labelled(texts: dict[str, list[str]], shots: slice) -> list[dict[str, str]]:
    return [{"text": text, "intent": name} for name, found in texts.items() for text in found[shots]]


async def live(
    learner: AutonomousLearner, clock: Clock, asked: Sequence[Text], users: int, rng: random.Random
) -> Counter[str]:
    """A week of turns; the number of turns by version."""
    step = timedelta(days=WINDOW_DAYS) / len(asked)
    answered: Counter[str] = Counter()
    for at, (text, label) in enumerate(asked):
        clock.now += step
        feedback = {"corrected_intent": label} if rng.random() < FEEDBACK else None
        user = f"user-{int(users * rng.random() ** 2)}"
        metadata = await learner.collect_conversation_metadata(
            TENANT, text, "...", user, feedback, occurred_at=clock.now, turn_id=f"{clock.now}-{at}"
        )
        answered[metadata.model_version or "none"] += 1
    return answered


async def measure(given: argparse.Namespace, seed: int) -> None:
    texts, clock, rng = read(given.data, given.intents, seed), Clock(), random.Random(seed)
    pool = [(text, name) for name, found in texts.items() for text in found[20:]]
    overrides = {"impact.holdback_share": given.share, "impact.window_days": WINDOW_DAYS}
    with tempfile.TemporaryDirectory() as home:
        async with create_autonomous_learner(home, overrides=overrides, clock=clock) as learner:
            await learner.bootstrap(TENANT, labelled(texts, slice(0, 5)))
            part = ImprovementPart(learner, learner.tenants)
            asked = [[rng.choice(pool) for _ in range(given.turns)] for _ in range(3)]
            await live(learner, clock, asked[0], given.users, rng)
            result = await learner.bootstrap(TENANT, labelled(texts, slice(5, 20)))
            if result.status != "deployed":
                raise SystemExit(f"the second version was {result.status}: {result.verdict}")
            await part.tick(clock())
            for number in (1, 2):
                answered = await live(learner, clock, asked[number], given.users, rng)
                clock.now += timedelta(minutes=2)
                began = perf_counter()
                await part.tick(clock())
                print(f"turns by version: {dict(answered)}; measured in {perf_counter() - began:.2f} s")
            await show(learner, clock, [*asked[1], *asked[2]])


async def accuracy(version: ModelVersion, asked: Sequence[Text]) -> float:
    """The share of texts that users of a version get the right intent for. Out of scope is wrong."""
    async with create_spacy_analyzer(version.path) as analyzer:
        found = await analyzer.analyze_many([text for text, _ in asked])
    return sum(one.intent == label for one, (_, label) in zip(found, asked, strict=True)) / len(asked)


async def show(learner: AutonomousLearner, clock: Clock, asked: Sequence[Text]) -> None:
    tracker = ImprovementTracker(learner=learner, tenant_id=TENANT, clock=clock)
    versions = (await learner.versions(TENANT))[::-1]
    true = [await accuracy(one, asked) for one in versions]
    print(f"true effect {100 * (true[-1] - true[0]):+.1f} points ({true[0]:.3f} to {true[-1]:.3f})")
    rows = [{"text": text, "intent": label} for text, label in asked]
    scores = [(await learner.evaluate(TENANT, rows, version=one.version)).scores for one in versions]
    print(f"likeliest intents, also out of scope: {[one.intent_accuracy for one in scores]}")
    (ticket,) = await tracker.tickets()
    print(f"{ticket.ticket_id}: smallest visible effect {100 * (ticket.smallest_effect or 0):.1f} points")
    for report in await tracker.impacts():
        print(f"{report.period.days:.0f} days: {report.conclusion}")
        if report.effect is not None:
            print(f"  {report.effect.users_changed} users changed, {report.effect.users_kept} kept")
    print(f"status: holdback {(await learner.status(TENANT)).holdback}")


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with train.jsonl")
    parser.add_argument("--intents", type=int, default=40)
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--turns", type=int, default=3_000)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    for seed in range(given.seeds):
        await measure(given, seed)


if __name__ == "__main__":
    asyncio.run(main())
