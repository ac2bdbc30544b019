"""The accuracy without labels beside the truth, in and out of drift.

    python benchmarks/label_free.py DATA/clinc150 [--shots 20] [--window 500] [--windows 200]

A tenant knows 130 intents of clinc150. Windows of turns are drawn from the test texts:

- `no drift`: texts of the known intents;
- `other shares`: intents with random shares (Dirichlet, 0.3);
- `typing errors`: one character in twelve is another one, in every second text;
- `new intents`: 15 % of the turns have one of 20 intents that the tenant lacks;
- `out of scope`: 15 % of the turns have no intent.

`distance`: mean distance of estimate and truth, the accuracy of the in-scope answers of the window, in
points. `raw` is the mean confidence, without the correction. The target: within 3 points, and an interval
that covers the truth in 90 % of the windows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from karen_learner import AutonomousLearner, create_autonomous_learner
from karen_learner.models.versions import intent_calibration
from karen_learner.monitoring.readings.estimate import estimate

TENANT = "bench"
NEW = 20
FOREIGN = 0.15
TARGET_POINTS, TARGET_COVERAGE = 3.0, 0.9
Text = tuple[str, str]


class Answers:
    """Answers to texts: their labels, whether they are right and in scope, and their confidences."""

    def __init__(self, labels: Sequence[str], right: Sequence[bool], outside: Sequence[bool],
                 confidences: Sequence[float]) -> None:  # fmt: skip
        self.labels = np.array(labels)
        self.right, self.outside = np.array(right, dtype=bool), np.array(outside, dtype=bool)
        self.confidences = np.array(confidences, dtype=np.float64)


Window = list[tuple[Answers, NDArray[np.int64]]]
"""Answers, and the places of those in the window."""


def read(path: Path) -> list[Text]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["text"], row.get("intent") or "") for row in rows]


def with_errors(texts: Sequence[Text], rng: random.Random) -> list[Text]:
    def changed(text: str) -> str:
        letters = list(text)
        for _ in range(max(1, len(letters) // 12)):
            letters[rng.randrange(len(letters))] = rng.choice("abcdefghijklmnopqrstuvwxyz ")
        return "".join(letters)

    return [(changed(text) if number % 2 else text, intent) for number, (text, intent) in enumerate(texts)]


async def answers(learner: AutonomousLearner, texts: Sequence[Text]) -> Answers:
    found = await learner.analyze_many(TENANT, [text for text, _ in texts])
    labels = [label for _, label in texts]
    return Answers(
        labels,
        [one.intent == label for one, label in zip(found, labels, strict=True)],
        [one.out_of_scope for one in found],
        [one.intent_confidence for one in found],
    )


async def main(options: argparse.Namespace) -> None:
    order = random.Random(options.seed)
    train, test = read(options.data / "train.jsonl"), read(options.data / "test.jsonl")
    order.shuffle(train)
    intents = sorted({intent for _, intent in train})
    order.shuffle(intents)
    new, counts, gold = set(intents[:NEW]), dict.fromkeys(intents, 0), []
    for text, intent in train:
        counts[intent] += 1
        if intent not in new and counts[intent] <= options.shots:
            gold.append({"text": text, "intent": intent})
    known = [one for one in test if one[1] not in new]
    with tempfile.TemporaryDirectory() as home:
        async with create_autonomous_learner(home) as learner:
            await learner.bootstrap(TENANT, gold)
            champion = (await learner.status(TENANT)).champion
            if champion is None:
                raise SystemExit("the bootstrap has deployed nothing")
            calibration = intent_calibration(champion.path)
            right = await answers(learner, known)
            errors = await answers(learner, with_errors(known, order))
            unknown = await answers(learner, [one for one in test if one[1] in new])
            outside = await answers(learner, read(options.data / "oos_test.jsonl"))
    rng = np.random.default_rng(options.seed)
    kinds: dict[str, Callable[[], Window]] = {
        "no drift": lambda: [drawn(right, options.window, rng)],
        "other shares": lambda: [shifted(right, options.window, rng)],
        "typing errors": lambda: [drawn(errors, options.window, rng)],
        "new intents": lambda: mixed(right, unknown, options.window, rng),
        "out of scope": lambda: mixed(right, outside, options.window, rng),
    }
    print("| turns | truth | estimate | distance | within 3 points | raw | covered | width of the interval |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, draw in kinds.items():
        rows = []
        for _ in range(options.windows):
            window = draw()
            hit, out, confidences = (
                np.concatenate([getattr(part, key)[places] for part, places in window])
                for key in ("right", "outside", "confidences")
            )
            inside = confidences[~out]
            truth = hit[~out].mean()
            value, low, high = estimate(inside, confidences[out], calibration)
            rows.append((truth, value, abs(value - truth), abs(inside.mean() - truth), low <= truth <= high,
                         high - low))  # fmt: skip
        truth, value, distance, raw, covered, width = np.mean(rows, axis=0)
        near = np.mean([100 * row[2] <= TARGET_POINTS for row in rows])
        print(
            f"| {name} | {100 * truth:.1f} | {100 * value:.1f} | {100 * distance:.1f} | {near:.0%} "
            f"| {100 * raw:.1f} | {covered:.0%} | {100 * width:.1f} |",
            flush=True,
        )
    print(f"target: {TARGET_POINTS:g} points, covered in {TARGET_COVERAGE:.0%}")


def drawn(of: Answers, count: int, rng: np.random.Generator) -> tuple[Answers, NDArray[np.int64]]:
    return of, rng.choice(len(of.right), min(count, len(of.right)), replace=False)


def shifted(of: Answers, count: int, rng: np.random.Generator) -> tuple[Answers, NDArray[np.int64]]:
    """Turns whose intents have random shares."""
    names, place = np.unique(of.labels, return_inverse=True)
    shares = rng.dirichlet(np.full(len(names), 0.3))[place]
    return of, rng.choice(len(place), count, p=shares / shares.sum())


def mixed(of: Answers, foreign: Answers, count: int, rng: np.random.Generator) -> Window:
    """Turns of which a share has no known intent."""
    few = round(FOREIGN * count)
    return [drawn(of, count - few, rng), drawn(foreign, few, rng)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--shots", type=int, default=20)
    parser.add_argument("--window", type=int, default=500)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asyncio.run(main(parser.parse_args()))
