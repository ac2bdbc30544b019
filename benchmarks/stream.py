"""Learning from a stream of turns, compared with a refit at every cycle and training without replay.

    python benchmarks/stream.py DATA/clinc150 [--seeds 3] [--cycles 10] [--shots 10] [--set KEY=VALUE ...]

All variants run the same seeded scenario of `karen-learner simulate`:

- `incremental`: as shipped; continues the live model, with replay;
- `naive`: continues with the new examples alone;
- `from scratch`: every cycle trains a new model on all curated examples.

The last model of `incremental` is compared with models fitted once on its curated examples: the same
pipeline, and scikit-learn's LinearSVC on TF-IDF of words and characters. All variants use the same gates.
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
from karen_learner.simulation import (
    Corpus,
    FeedbackRates,
    Refit,
    Scenario,
    Step,
    read_corpus,
    refit,
    simulate,
)

TENANT = "bench"
RATES = FeedbackRates(correction_rate=0.3, rating_rate=0.3, noise=0.05)
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "incremental": {},
    "naive": {"learning.replay_examples": 0},
    "from scratch": {},
}


@dataclass
class VariantRun:
    """One scenario with one variant."""

    steps: list[Step] = field(default_factory=list)
    refit: Refit | None = None
    svc: float | None = None

    @property
    def accuracies(self) -> list[float]:
        return [step.scores.intent or 0.0 for step in self.steps]

    @property
    def training_s(self) -> float:
        """Seconds of training in the cycles, without the bootstrap."""
        return sum(step.stage_seconds.get("training", 0.0) for step in self.steps[1:])


async def run_variant(
    variant: str, corpus: Corpus, *, seed: int, cycles: int, shots: int, overrides: Mapping[str, Any]
) -> VariantRun:
    """Run the scenario in its own home."""
    mode = "full" if variant == "from scratch" else "incremental" if variant == "naive" else "auto"
    scenario = Scenario(shots=shots, rates=RATES, cycles=cycles, mode=mode, seed=seed)
    run = VariantRun()
    settings = {**overrides, **VARIANTS[variant]}
    with tempfile.TemporaryDirectory() as home:
        async with create_autonomous_learner(home, overrides=settings) as learner:
            async for step in simulate(learner, TENANT, corpus, scenario):
                run.steps.append(step)
            if variant == "incremental":
                run.refit = await refit(learner, TENANT, corpus.test, folder=Path(home) / "refit")
                run.svc = await svc_on_curated(learner, corpus.test)
    return run


async def svc_on_curated(learner: AutonomousLearner, test: Sequence[LabelledText]) -> float:
    """LinearSVC on all curated examples."""
    curator = Curator(learner.store, learner.settings)
    selection = await curator.select(TENANT, mode="full")
    known = [example for example in (*selection.new, *selection.replay) if example.intent is not None]
    return await asyncio.to_thread(linear_svc, known, test)


def table_line(name: str, values: Sequence[float]) -> str:
    return f"{name:14}" + "".join(f"{value:7.3f}" for value in values)


def print_seed(seed: int, runs: Mapping[str, VariantRun]) -> None:
    """Accuracy on the test file after each cycle, by variant."""
    longest = max(len(one.steps) for one in runs.values())
    print(f"seed {seed}; accuracy on the test file after cycle")
    print(f"{'':14}" + "".join(f"{number:7d}" for number in range(longest)) + "   training s   rejected")
    for variant, one in runs.items():
        rejected = sum(step.status == "rejected" for step in one.steps)
        print(f"{table_line(variant, one.accuracies)}{one.training_s:13.1f}{rejected:11d}")
    ours = runs["incremental"]
    if ours.refit is not None and ours.svc is not None:
        scratch = ours.refit.scores.intent or 0.0
        print(
            f"our pipeline, fitted once on the same examples:         {scratch:.3f} "
            f"in {ours.refit.seconds:.1f} s"
        )
        print(f"LinearSVC fitted on the same examples:                  {ours.svc:.3f}", flush=True)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4f} (from {min(values):.4f} to {max(values):.4f})"


def print_summary(runs_by_seed: Sequence[Mapping[str, VariantRun]]) -> None:
    """Means over the seeds, with the targets."""
    ours = [runs["incremental"] for runs in runs_by_seed]
    last = [one.accuracies[-1] for one in ours]
    gap = [one.accuracies[-1] - (one.refit.scores.intent or 0.0) for one in ours if one.refit is not None]
    lead = [one.accuracies[-1] - one.svc for one in ours if one.svc is not None]
    print(f"\n{len(runs_by_seed)} seeds, mean and range of the last accuracy")
    for variant in runs_by_seed[0]:
        print(f"  {variant:14} {spread([runs[variant].accuracies[-1] for runs in runs_by_seed])}")
    print(f"  first          {spread([one.accuracies[0] for one in ours])}; last {spread(last)}")
    print(f"incremental minus its refit: {spread(gap)}; target: at least -0.005")
    print(f"incremental minus LinearSVC on the same examples: {spread(lead)}; target: above 0")
    if "from scratch" in runs_by_seed[0]:
        shares = [runs["incremental"].training_s / runs["from scratch"].training_s for runs in runs_by_seed]
        print(f"training seconds, share of a refit at every cycle: {spread(shares)}; target: at most 0.33")


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a folder with train.jsonl and test.jsonl (clinc150)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings to change")
    options = parser.parse_args()
    if not (options.data / "train.jsonl").is_file():
        raise SystemExit(f"there is no {options.data / 'train.jsonl'}: see benchmarks/README.md for the sets")
    corpus = read_corpus(options.data)
    overrides = dict(pair.split("=", 1) for pair in options.set)
    variants = ["incremental", *(variant for variant in options.variants if variant != "incremental")]
    runs_by_seed = []
    for seed in range(options.seeds):
        runs = {
            variant: await run_variant(
                variant, corpus, seed=seed, cycles=options.cycles, shots=options.shots, overrides=overrides
            )
            for variant in variants
        }
        print_seed(seed, runs)
        runs_by_seed.append(runs)
    print_summary(runs_by_seed)


if __name__ == "__main__":
    asyncio.run(main())
