"""Learning from a stream of conversations: against refitting at every cycle, and against learning naively.

    python benchmarks/stream.py DATA/clinc150 [--seeds 3] [--cycles 10] [--shots 10] [--set KEY=VALUE ...]

Each way plays the same story (`karen-learner simulate`: the users, their mistakes and the order are seeded):

- `incremental`: as shipped; continues from the live model, with replay;
- `naive`: continues with nothing but the new examples: no replay, no self-training;
- `from scratch`: every cycle trains a new model on all that was curated.

Beside the last cycle of `incremental` stand models fitted at once on the examples that it had curated for
training: its own pipeline, and scikit-learn's LinearSVC (as it comes) on TF-IDF of words and characters; that
once more on the development and holdout splits, which ours may not train on. The gate is the same for all.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import linear_svc

from karen_learner import AutonomousLearner, create_autonomous_learner
from karen_learner.curation import Curator
from karen_learner.records import LabelledText
from karen_learner.simulation import Corpus, Habits, Refit, Scenario, Step, read_corpus, refit, simulate

TENANT = "bench"
HABITS = Habits(correction_rate=0.3, rating_rate=0.3, noise=0.05)
WAYS: Mapping[str, Mapping[str, Any]] = {
    "incremental": {},
    "naive": {"learning.replay_examples": 0},
    "from scratch": {},
}


@dataclass
class Played:
    """One story, played by one way."""

    steps: list[Step] = field(default_factory=list)
    refit: Refit | None = None
    svc: float | None = None
    svc_on_all: float | None = None

    @property
    def accuracies(self) -> list[float]:
        return [step.scores.intent or 0.0 for step in self.steps]

    @property
    def training_s(self) -> float:
        """Seconds of training in the cycles, without the bootstrap."""
        return sum(step.stage_seconds.get("training", 0.0) for step in self.steps[1:])


async def play(
    way: str, corpus: Corpus, *, seed: int, cycles: int, shots: int, overrides: Mapping[str, Any]
) -> Played:
    """Run the story in a home of its own."""
    mode = "full" if way == "from scratch" else "incremental" if way == "naive" else "auto"
    scenario = Scenario(shots=shots, habits=HABITS, cycles=cycles, mode=mode, seed=seed)
    played = Played()
    settings = {"gate.max_cross_validated": 0, **overrides, **WAYS[way]}
    with tempfile.TemporaryDirectory() as home:
        async with create_autonomous_learner(home, overrides=settings) as learner:
            async for step in simulate(learner, TENANT, corpus, scenario):
                played.steps.append(step)
            if way == "incremental":
                played.refit = await refit(learner, TENANT, corpus.test, folder=Path(home) / "refit")
                played.svc = await svc_on_curated(learner, corpus.test, everything=False)
                played.svc_on_all = await svc_on_curated(learner, corpus.test, everything=True)
    return played


async def svc_on_curated(
    learner: AutonomousLearner, test: Sequence[LabelledText], *, everything: bool
) -> float:
    """LinearSVC fitted on the training split; with `everything` on the other two as well."""
    curator = Curator(learner.store, learner.settings)
    selection = await curator.select(TENANT, mode="full")
    curated: list[LabelledText] = [*selection.new, *selection.replay]
    if everything:
        curated += [example async for example in curator.dev(TENANT)]
        curated += [example async for example in curator.holdout(TENANT)]
    known = [example for example in curated if example.intent is not None]
    return await asyncio.to_thread(linear_svc, known, test)


def row(name: str, values: Sequence[float]) -> str:
    return f"{name:14}" + "".join(f"{value:7.3f}" for value in values)


def print_seed(seed: int, played: Mapping[str, Played]) -> None:
    """Accuracy on the test file after each cycle, by way."""
    longest = max(len(one.steps) for one in played.values())
    print(f"seed {seed}; accuracy on the test file after cycle")
    print(f"{'':14}" + "".join(f"{number:7d}" for number in range(longest)) + "   training s   rejected")
    for way, one in played.items():
        rejected = sum(step.status == "rejected" for step in one.steps)
        print(f"{row(way, one.accuracies)}{one.training_s:13.1f}{rejected:11d}")
    ours = played["incremental"]
    if ours.refit is not None and ours.svc is not None:
        scratch = ours.refit.scores.intent or 0.0
        print(
            f"own pipeline fitted at once on the same examples:       {scratch:.3f} "
            f"in {ours.refit.seconds:.1f} s"
        )
        print(f"LinearSVC fitted on the same examples:                  {ours.svc:.3f}")
        print(f"LinearSVC, development and holdout splits included:     {ours.svc_on_all:.3f}", flush=True)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4f} (from {min(values):.4f} to {max(values):.4f})"


def print_summary(stories: Sequence[Mapping[str, Played]]) -> None:
    """Means over the seeds, with what was aimed at."""
    ours = [story["incremental"] for story in stories]
    last = [one.accuracies[-1] for one in ours]
    gap = [one.accuracies[-1] - (one.refit.scores.intent or 0.0) for one in ours if one.refit is not None]
    lead = [one.accuracies[-1] - one.svc for one in ours if one.svc is not None]
    print(f"\n{len(stories)} seeds, mean and spread of the last accuracy")
    for way in stories[0]:
        print(f"  {way:14} {spread([story[way].accuracies[-1] for story in stories])}")
    print(f"  first          {spread([one.accuracies[0] for one in ours])}; last {spread(last)}")
    print(f"incremental minus its refit: {spread(gap)}; aim: at least -0.005")
    print(f"incremental minus LinearSVC on the same examples: {spread(lead)}; aim: above 0")
    wider = [one.accuracies[-1] - one.svc_on_all for one in ours if one.svc_on_all is not None]
    print(f"incremental minus LinearSVC on all splits: {spread(wider)}")
    if "from scratch" in stories[0]:
        shares = [story["incremental"].training_s / story["from scratch"].training_s for story in stories]
        print(f"training seconds, share of refitting every time: {spread(shares)}; aim: at most 0.33")


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a folder with train.jsonl and test.jsonl (clinc150)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings to change")
    options = parser.parse_args()
    if not (options.data / "train.jsonl").is_file():
        raise SystemExit(f"there is no {options.data / 'train.jsonl'}: see benchmarks/README.md for the sets")
    corpus = read_corpus(options.data)
    overrides = dict(pair.split("=", 1) for pair in options.set)
    ways = ["incremental", *(way for way in options.ways if way != "incremental")]
    stories = []
    for seed in range(options.seeds):
        story = {
            way: await play(
                way, corpus, seed=seed, cycles=options.cycles, shots=options.shots, overrides=overrides
            )
            for way in ways
        }
        print_seed(seed, story)
        stories.append(story)
    print_summary(stories)


if __name__ == "__main__":
    asyncio.run(main())
