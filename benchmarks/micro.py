"""Time from 100 new events to the live model, with 150 intents.

    python benchmarks/micro.py DATA/clinc150 [--events 100] [--replay 300] [--rounds 5]

The model is bootstrapped from most of the training file. In each round users correct `--events` answers. A
micro-update (mode `micro`) makes one pass over these and `--replay` replayed examples: curation, replay,
training of the served model, checks of harm, and deployment as provisional version. Then an incremental
cycle trains shadows, and confirms or ends the provisional version. The table has the seconds of the updates,
and the seconds from the call until the new model is live. The backup follows later. The last line has the
accuracy on the test file before the first round and after the last one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from karen_learner import AutonomousLearner, create_autonomous_learner
from karen_learner.events import Event, ModelDeployed, TrainingProgressed
from karen_learner.records import LabelledText, LearningCycleResult
from karen_learner.simulation import read_corpus

TENANT = "bench"
TARGET_TRAINING_S = 0.2
TARGET_LIVE_S = 2.0
PAUSE_S = 1.0


class CycleTimes:
    """A subscriber: training seconds and deployment time of the running cycle."""

    def __init__(self) -> None:
        self.training_s = 0.0
        self.live_at: float | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, TrainingProgressed):
            self.training_s += event.seconds
        if isinstance(event, ModelDeployed):
            self.live_at = time.perf_counter()


async def micro_update(
    learner: AutonomousLearner, events: Sequence[LabelledText], times: CycleTimes
) -> tuple[LearningCycleResult, float]:
    """Corrections, a cycle, and the seconds until the model is live or rejected."""
    await asyncio.gather(
        *(
            learner.collect_conversation_metadata(
                TENANT, one.text, "Let me see.", f"u{number}", {"corrected_intent": one.intent}
            )
            for number, one in enumerate(events)
        )
    )
    started = time.perf_counter()
    result = await learner.trigger_learning_cycle(TENANT, mode="micro", force_training=True)
    ended = time.perf_counter()
    await learner.events.drain()
    return result, (times.live_at or ended) - started


async def accuracy(learner: AutonomousLearner, texts: Sequence[LabelledText]) -> float:
    """The share of right intents."""
    answers = await learner.analyze_many(TENANT, [one.text for one in texts])
    return sum(one.intent == text.intent for one, text in zip(answers, texts, strict=True)) / len(texts)


async def measure(data: Path, *, events: int, replay: int, rounds: int) -> None:
    corpus = read_corpus(data)
    texts = random.Random(0).sample(corpus.train, len(corpus.train))
    gold, rest = texts[: -events * rounds], texts[-events * rounds :]
    settings = {
        "learning.max_training_examples": events,
        "learning.replay_examples": replay,
        "training.continuing_n_iter": 1,
    }
    trained, live, rejected = [], [], []
    with tempfile.TemporaryDirectory() as home:
        async with create_autonomous_learner(home, overrides=settings) as learner:
            first = await learner.bootstrap(TENANT, gold)
            print(f"bootstrap: {len(gold):,} examples, {first.duration_s:.0f} s")
            before = await accuracy(learner, corpus.test)
            columns = ("curating", "training", "validating", "deploying")
            names = "  ".join((*columns, "decision s"))
            print(f"{'round':>5}{'training s':>12}{'live after s':>14}  status    {names}")
            for number in range(rounds):
                await asyncio.sleep(PAUSE_S)
                times = CycleTimes()
                unsubscribe = learner.events.subscribe(times)
                part = rest[number * events : (number + 1) * events]
                result, seconds = await micro_update(learner, part, times)
                unsubscribe()
                trained.append(times.training_s)
                (live if result.status == "deployed" else rejected).append(seconds)
                stages = "  ".join(
                    f"{result.stage_seconds.get(name, 0.0):{len(name)}.2f}" for name in columns
                )
                decided = await learner.trigger_learning_cycle(
                    TENANT, mode="incremental", force_training=True
                )
                print(
                    f"{number:>5}{times.training_s:12.3f}{seconds:14.2f}  {result.status:9} {stages}"
                    f"{decided.duration_s:12.1f}  {decided.status}",
                    flush=True,
                )
            after = await accuracy(learner, corpus.test)
    print(f"accuracy on the test file: {before:.4f} before, {after:.4f} after {rounds} rounds")
    training_ms = statistics.median(trained) * 1000
    print(f"{events} events, {replay} replayed, one pass, medians of {rounds} rounds:")
    print(f"{training_ms:.0f} ms of training; target: {TARGET_TRAINING_S * 1000:.0f}")
    if live:
        print(f"live after {statistics.median(live):.2f} s, in {len(live)} rounds; target: {TARGET_LIVE_S:g}")
    if rejected:
        print(f"rejected after {statistics.median(rejected):.2f} s, in {len(rejected)} rounds")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a folder with train.jsonl and test.jsonl (clinc150)")
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--replay", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not (options.data / "train.jsonl").is_file():
        raise SystemExit(f"there is no {options.data / 'train.jsonl'}: see benchmarks/README.md for the sets")
    asyncio.run(measure(options.data, events=options.events, replay=options.replay, rounds=options.rounds))


if __name__ == "__main__":
    main()
