"""Seconds of a learning cycle with 1,000 to 1,000,000 learned examples.

    python benchmarks/cost.py [--sizes 1000 10000 100000 1000000] [--events 1000] [--cycles 3] [--refit 0]

One tenant with 150 intents and a live model. Between measurements the store is filled with learned examples,
their counters and index entries, as earlier cycles leave them. Then users correct `--events` answers and an
incremental cycle runs: curation, replay, worker process, validation, deployment. The table has the median of
each stage over `--cycles` cycles, and the sum up to the verdict. The deployment median covers deployed cycles
only. At the size `--refit`, a model is also trained from scratch on all examples.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence

from karen_learner import AutonomousLearner, create_autonomous_learner
from karen_learner.curation.examples import new_example
from karen_learner.memory import SqlMemoryStore
from karen_learner.records import CurationWrite, Example, LabelledText, LearningCycleResult

TENANT = "bench"
INTENTS = 150
SHOTS = 20
WORDS_PER_INTENT = 12
COMMON_WORDS = 400
PAGE = 2000
TARGET_RATIO = 1.3
ONSETS, VOWELS, CODAS = "bdfgklmnprstvz", "aeiou", "lmnrstkp"
STAGES, DEPLOYMENT = ("curating", "training", "validating"), "deploying"


class TextSource:
    """Texts of made-up words. Some words belong to one intent, most to all."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = random.Random(seed)
        self._common = [self._word() for _ in range(COMMON_WORDS)]
        self._own = [[self._word() for _ in range(WORDS_PER_INTENT)] for _ in range(INTENTS)]

    def _word(self) -> str:
        syllables = self._rng.randrange(2, 4)
        return "".join(self._rng.choice(ONSETS) + self._rng.choice(VOWELS) for _ in range(syllables)) + (
            self._rng.choice(CODAS)
        )

    def draw(self) -> tuple[str, str]:
        """A text and its intent."""
        number = self._rng.randrange(INTENTS)
        words = self._rng.sample(self._common, 5) + self._rng.sample(self._own[number], 2)
        self._rng.shuffle(words)
        return " ".join(words), f"intent_{number:03d}"

    def shots(self, each: int) -> Iterator[dict[str, str]]:
        """Gold texts, the same number for each intent."""
        for number in range(INTENTS):
            for _ in range(each):
                words = self._rng.sample(self._common, 5) + self._rng.sample(self._own[number], 2)
                yield {"text": " ".join(words), "intent": f"intent_{number:03d}"}


def learned(text: str, intent: str) -> Example:
    """An example as an earlier cycle leaves it."""
    labelled = LabelledText(text=text, intent=intent)
    return new_example(labelled, source="correction", quality=0.9).model_copy(update={"state": "learned"})


async def fill(store: SqlMemoryStore, source: TextSource, size: int) -> None:
    """Add learned examples up to `size`."""
    missing = size - (await store.counts(TENANT)).examples.get("learned", 0)
    while missing > 0:
        page = [learned(*source.draw()) for _ in range(min(PAGE, missing))]
        await store.save_curation(TENANT, CurationWrite(upserts=page))
        missing = size - (await store.counts(TENANT)).examples.get("learned", 0)


async def cycle(learner: AutonomousLearner, source: TextSource, events: int) -> LearningCycleResult:
    """Corrections, and a cycle on them."""
    drawn = [source.draw() for _ in range(events)]
    await asyncio.gather(
        *(
            learner.collect_conversation_metadata(
                TENANT, text, "Let me see.", f"u{number % 40}", {"corrected_intent": intent}
            )
            for number, (text, intent) in enumerate(drawn)
        )
    )
    result = await learner.trigger_learning_cycle(TENANT, mode="incremental", force_training=True)
    if result.status not in ("deployed", "rejected"):
        raise RuntimeError(f"the cycle ended as {result.status}: {result.error_message}")
    return result


def median_of(results: Sequence[LearningCycleResult], stage: str) -> float:
    """Median seconds of a stage; NaN without values."""
    seconds = [result.stage_seconds[stage] for result in results if stage in result.stage_seconds]
    return statistics.median(seconds) if seconds else math.nan


async def full_training_s(learner: AutonomousLearner) -> float:
    """Seconds of training from scratch on all learned examples."""
    result = await learner.trigger_learning_cycle(TENANT, mode="full", force_training=True)
    if "training" not in result.stage_seconds or result.status == "failed":
        raise RuntimeError(f"the refit ended as {result.status}: {result.error_message}")
    return result.stage_seconds["training"]


async def measure(sizes: Sequence[int], *, events: int, cycles: int, refit: int) -> None:
    source = TextSource()
    print(
        f"{'examples':>10}"
        + "".join(f"{stage:>12}" for stage in STAGES)
        + f"{'sum s':>9}{'ratio':>8}{DEPLOYMENT:>12}"
    )
    reference: float | None = None
    settings = {"learning.max_full_examples": max(2 * refit, 1)}
    with tempfile.TemporaryDirectory() as home:
        async with create_autonomous_learner(home, overrides=settings) as learner:
            await learner.bootstrap(TENANT, list(source.shots(SHOTS)))
            for size in sizes:
                started = time.perf_counter()
                await fill(learner.store, source, size)
                filled = time.perf_counter() - started
                results = [await cycle(learner, source, events) for _ in range(cycles)]
                medians = {stage: median_of(results, stage) for stage in (*STAGES, DEPLOYMENT)}
                seconds = sum(medians[stage] for stage in STAGES)
                reference = seconds if size <= 10_000 or reference is None else reference
                stages = "".join(f"{medians[stage]:12.2f}" for stage in STAGES)
                deployed = sum(result.status == "deployed" for result in results)
                print(
                    f"{size:>10,}{stages}{seconds:9.2f}{seconds / reference:8.2f}{medians[DEPLOYMENT]:12.2f}"
                    f" in {deployed} of {cycles}   (filled in {filled:.0f} s)",
                    flush=True,
                )
                if size == refit:
                    scratch = await full_training_s(learner)
                    print(
                        f"{'':10}training from scratch on all examples: {scratch:.1f} s; "
                        f"incremental: {medians['training'] / scratch:.3f} of that; target: 0.1",
                        flush=True,
                    )
    print(
        f"ratio: to 10,000, or else to the smallest size; target: a million within {TARGET_RATIO} of 10,000"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--events", type=int, default=1_000, help="corrections before each cycle")
    parser.add_argument("--cycles", type=int, default=3, help="cycles at each size")
    parser.add_argument(
        "--refit", type=int, default=100_000, help="size at which to train from scratch; 0: never"
    )
    options = parser.parse_args()
    asyncio.run(measure(options.sizes, events=options.events, cycles=options.cycles, refit=options.refit))


if __name__ == "__main__":
    main()
