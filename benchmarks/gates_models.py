"""Models for `gates.py`: trained on real texts, with candidates of a known true difference."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import accuracy_text
import numpy as np
from accuracy_text import DataSet, Texts
from numpy.typing import NDArray

BLOCKS = 150
"""Parts of the pool. A mixed candidate answers each part with another model."""
SIZES = {"clinc150": 2000, "meld": 4000}
"""Training texts of the champion."""
LABELS = {"clinc150": "intent", "meld": "sentiment"}
REPLACED = 0.1
SMALLEST = 0.001


@dataclass(frozen=True)
class Answers:
    """The answers of a model on the pool: `right` (texts,), `likelihoods` (texts,) of the true labels."""

    right: NDArray[np.bool_]
    likelihoods: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())


@dataclass(frozen=True)
class Pool:
    """Texts outside of all trainings, the answers of all models, and their accuracies on the test file."""

    labels: Sequence[str]
    blocks: NDArray[np.int64]
    champion: Answers
    equal: Sequence[Answers]
    worse: Sequence[Answers]
    better: Sequence[Answers]
    on_test: dict[str, float]

    def mixed(self, models: Sequence[Answers], rng: np.random.Generator) -> Answers:
        """A candidate that answers each block with one of the models."""
        chosen = rng.integers(len(models), size=BLOCKS)[self.blocks]
        where = np.arange(len(self.blocks))
        right = np.array([one.right for one in models])[chosen, where]
        return Answers(right, np.array([one.likelihoods for one in models])[chosen, where])

    def _models(self, points: float, disagreement: float) -> Sequence[Answers]:
        """The models whose answers differ enough from the champion's."""
        changed = self.worse if points < 0 else self.better
        models = list(changed) if abs(points) > 1 else [*self.equal, *(changed if points else ())]
        models.sort(key=lambda one: -float((one.right != self.champion.right).mean()))
        return models if disagreement <= 0.05 else models[: len(models) // 2]

    def candidate(
        self, points: float, disagreement: float, rng: np.random.Generator, champion: Answers | None = None
    ) -> Answers:
        """A candidate that is truly `points` points better.

        On the share `disagreement` of the pool, or less, one of both is right and the other wrong. It is a
        mixed candidate, some of whose answers are replaced by the champion's.
        """
        before = champion or self.champion
        mixed = self.mixed(self._models(points, disagreement), rng)
        gained = np.flatnonzero(mixed.right & ~before.right)
        lost = np.flatnonzero(~mixed.right & before.right)
        surplus = round(points / 100 * len(before.right))
        losses = min(
            (round(disagreement * len(before.right)) - surplus) // 2, len(lost), len(gained) - surplus
        )
        losses = max(losses, -surplus, 0)
        if losses > len(lost) or losses + surplus > len(gained):
            raise ValueError(f"no candidate of {points:+} points at a disagreement of {disagreement}")
        dropped = [
            rng.permutation(gained)[losses + surplus :],
            rng.permutation(lost)[losses:],
        ]
        right, likelihoods = mixed.right.copy(), mixed.likelihoods.copy()
        for at in dropped:
            right[at], likelihoods[at] = before.right[at], before.likelihoods[at]
        if points == 0:  # a candidate without a gain has none in its likelihoods either
            likelihoods += before.likelihoods.mean() - likelihoods.mean()
        return Answers(right, likelihoods)


def read_pool(name: str, data: Path, cache: Path) -> Pool:
    """Train all models of a data set, or read their answers from `cache`."""
    train = list(accuracy_text.read(data / name / "train.jsonl", LABELS[name]))
    test = accuracy_text.read(data / name / "test.jsonl", LABELS[name])
    random.Random(0).shuffle(train)
    size = SIZES[name]
    used, rest = train[: 2 * size], train[2 * size :]
    texts = [*rest, *test]
    answers = {key: _answers(f"{name}-{key}", part, texts, cache) for key, part in _trainings(used, size)}
    on_pool = {key: Answers(*(values[: len(rest)] for values in pair)) for key, pair in answers.items()}
    labels = [label for _, label in rest]
    names = sorted(set(labels))
    codes = np.array([names.index(label) for label in labels])
    blocks = codes % BLOCKS if len(names) >= BLOCKS else np.arange(len(labels)) % BLOCKS
    return Pool(
        labels=labels,
        blocks=blocks,
        champion=on_pool["champion"],
        equal=[one for key, one in on_pool.items() if key.startswith("equal")],
        worse=[one for key, one in on_pool.items() if key.startswith(("less", "noisy"))],
        better=[one for key, one in on_pool.items() if key.startswith("more")],
        on_test={key: float(right[len(rest) :].mean()) for key, (right, _) in answers.items()},
    )


def _trainings(used: Texts, size: int) -> Iterator[tuple[str, Texts]]:
    """The training texts of each model: those of the champion, changed, fewer, noisier or more."""
    yield "champion", used[:size]
    names = sorted({label for _, label in used})
    for seed in range(6):
        rng = random.Random(seed)
        kept = rng.sample(list(used[:size]), round(size * (1 - REPLACED)))
        yield f"equal {seed}", [*kept, *rng.sample(list(used[size:]), size - len(kept))]
    yield "equal others", used[size:]
    for share in (0.8, 0.65):
        yield f"less {share}", used[: round(size * share)]
        yield f"less others {share}", used[-round(size * share) :]
    rng = random.Random(9)
    yield "noisy", [(text, rng.choice(names) if rng.random() < 0.1 else label) for text, label in used[:size]]
    for share in (1.3, 1.6, 2.0):
        yield f"more {share}", used[: round(size * share)]
    yield "more others", used[-round(size * 1.5) :]


def _answers(name: str, train: Texts, texts: Texts, cache: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    path = cache / f"{name.replace(' ', '-')}.npz"
    if not path.is_file():
        data = DataSet(train, (), (), weighted=False)
        nlp, _ = accuracy_text.trained(data, dict(accuracy_text.OURS), passes=accuracy_text.PASSES, seed=0)
        right, likelihoods = [], []
        for doc, (_, label) in zip(nlp.pipe(text for text, _ in texts), texts, strict=True):
            right.append(max(doc.cats, key=lambda one: doc.cats[one]) == label)
            likelihoods.append(math.log(max(SMALLEST, doc.cats.get(label, SMALLEST))))
        np.savez(path, right=np.array(right), likelihoods=np.array(likelihoods))
    stored = np.load(path)
    return stored["right"], stored["likelihoods"]


def taken(answers: Answers, drawn: NDArray[np.int64]) -> Answers:
    """The answers on drawn texts."""
    return replace(answers, right=answers.right[drawn], likelihoods=answers.likelihoods[drawn])
