"""Which of the learned examples a pipe trains on again, and how much each then counts.

Of a pool, many times as large as what may be trained on, a pipe draws what it would learn most from: half of
the places go evenly to the labels, half by the loss that the pipe has as it is. What was drawn with a chance
of `p` counts `1 / p`, and what the pool was drawn from counts too, so that on average the training is that on
everything that was learned before, at the cost of a part:

    Zhao, Zhang: Stochastic Optimization with Importance Sampling, ICML 2015.

Of a very long history they count less than that: see LARGEST_MEAN.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc
from spacy.training import Example

from karen_learner.components.example_weights import set_weight, weight_of
from karen_learner.components.own_labels import OwnLabels
from karen_learner.records import Task
from karen_learner.training.pipelines import TrainablePipeline

Floats = NDArray[np.float64]

BY_LOSS = 0.5
"""The share of the places that goes by loss. Evenly drawn examples keep what is well known well known."""
SMALLEST_LOSS = 1e-9
"""What is known well can still be drawn."""
LARGEST_MEAN = 10.0
"""What the drawn ones count on average, at most. If they counted ever more as the history grows, a new label
would learn ever less from its few examples, and what is known would not be known better."""


def rehearse(pipe: Any, pool: Sequence[Doc], *, budget: int, rng: random.Random) -> list[tuple[Doc, float]]:
    """Up to `budget` documents of the pool, each with what it counts; all of them if there is room.

    The pool holds gold documents with labels of the pipe. A pipe that cannot tell its losses, one of
    spaCy's own for instance, draws evenly over labels.
    """
    if len(pool) <= budget:
        return _bounded([(doc, weight_of(doc)) for doc in pool])
    chances = _chances(pipe, pool, budget)
    drawn = drawn_by(chances, rng)
    return _bounded([(pool[at], weight_of(pool[at]) / float(chances[at])) for at in drawn])


def training_examples(
    pipeline: TrainablePipeline, task: Task, new: Sequence[Doc], again: Sequence[tuple[Doc, float]]
) -> list[Example]:
    """Everything that the pipe of a task trains on; what is trained on `again` by what it counts."""
    replayed = pipeline.examples(task, [doc for doc, _ in again])
    for example, (_, weight) in zip(replayed, again, strict=True):
        set_weight(example.reference, weight)
    return [*pipeline.examples(task, new), *replayed]


def chances_for(sizes: Floats, places: float) -> Floats:
    """Chances in proportion to `sizes` (all above 0), none above 1, that add up to `places`.

    All are 1 if there are as many places as sizes, or more; all are 0 if there is no place.
    """
    if places <= 0.0:
        return np.zeros(len(sizes))
    chances = np.ones(len(sizes))
    free = np.ones(len(sizes), dtype=bool)
    while free.any():
        room = places - (len(sizes) - free.sum())
        chances[free] = sizes[free] * (room / sizes[free].sum())
        if (chances[free] <= 1.0).all():
            break
        free &= chances < 1.0
        chances[~free] = 1.0
    return chances


def drawn_by(chances: Floats, rng: random.Random) -> list[int]:
    """Positions, each drawn by its chance; their number is the sum of the chances to within one."""
    order = np.array(rng.sample(range(len(chances)), len(chances)), dtype=np.int64)
    reached = np.floor(np.cumsum(chances[order]) + rng.random())
    return sorted(order[np.diff(reached, prepend=0.0) > 0].tolist())


def _bounded(drawn: list[tuple[Doc, float]]) -> list[tuple[Doc, float]]:
    """The same in proportion, LARGEST_MEAN on average if it was more."""
    total = sum(weight for _, weight in drawn)
    scale = min(1.0, LARGEST_MEAN * len(drawn) / total) if drawn else 1.0
    return [(doc, weight * scale) for doc, weight in drawn]


def _chances(pipe: Any, pool: Sequence[Doc], budget: int) -> Floats:
    """Of each document of the pool the chance to be drawn."""
    losses = pipe.losses_of(pool) if isinstance(pipe, OwnLabels) else None
    if losses is None:
        return chances_for(_rarity(pipe, pool), budget)
    sizes = np.maximum(np.nan_to_num(losses).astype(np.float64), SMALLEST_LOSS)
    by_loss = chances_for(sizes, BY_LOSS * budget)
    evenly = chances_for(_rarity(pipe, pool), (1.0 - BY_LOSS) * budget)
    return chances_for(by_loss + evenly, budget)


def _rarity(pipe: Any, pool: Sequence[Doc]) -> Floats:
    """One over the number of documents with the same labels of the pipe."""
    labels = set(pipe.labels)
    keys = [frozenset(_labels_of(doc) & labels) for doc in pool]
    counts = Counter(keys)
    return np.array([1.0 / counts[key] for key in keys])


def _labels_of(doc: Doc) -> set[str]:
    return {label for label, value in doc.cats.items() if value == 1.0} | {span.label_ for span in doc.ents}
