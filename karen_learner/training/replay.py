"""Which of the learned examples a pipe trains on again, and how much each then counts.

Of a pool, many times as large as what may be trained on, a pipe draws what it would learn most from: half of
the places go evenly to the labels, half by the loss that the pipe has as it is. What was drawn with a chance
of `p` counts `1 / p`, and what the pool was drawn from counts too, so that on average the training is that on
everything that was learned before, at the cost of a part:

    Zhao, Zhang: Stochastic Optimization with Importance Sampling, ICML 2015.

Of a history that is long beside what is new they count less than that: see MOST_PER_NEW.
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

from karen_learner.components.online.sample_weights import sample_weight, set_sample_weight
from karen_learner.components.textcat.pipe import BaseTextCategorizer
from karen_learner.records import Task
from karen_learner.training.pipelines import TrainablePipeline

Floats = NDArray[np.float64]

BY_LOSS = 0.5
"""The share of the places that goes by loss. Evenly drawn examples keep what is well known well known."""
SMALLEST_LOSS = 1e-9
"""What is known well can still be drawn."""
MOST_PER_NEW = 10.0
"""All that is trained on again counts together at most so many times what is new, or as often as it is there.
A few examples that each counted as a hundred would jolt a model that knows what they stand for already, and a
new label would learn little from its few examples."""


def rehearse(pipe: Any, pool: Sequence[Doc], *, budget: int, rng: random.Random) -> list[tuple[Doc, float]]:
    """Up to `budget` documents of the pool, each with what it counts; all of them if there is room.

    The pool holds gold documents with labels of the pipe. A pipe that cannot tell its losses, one of
    spaCy's own for instance, draws evenly over labels.
    """
    if len(pool) <= budget:
        return [(doc, sample_weight(doc)) for doc in pool]
    chances = _chances(pipe, pool, budget)
    return [(pool[at], sample_weight(pool[at]) / float(chances[at])) for at in drawn_by(chances, rng)]


def training_examples(
    pipeline: TrainablePipeline,
    task: Task,
    new: Sequence[Doc],
    again: Sequence[tuple[Doc, float]],
    *,
    guessed: Sequence[Doc] = (),
) -> list[Example]:
    """Everything that the pipe of a task trains on; what is trained on `again` by what it counts.

    Those that the pipe has `guessed` itself are not what is new, beside which the others are bounded.
    """
    examples = pipeline.examples(task, new)
    replayed = pipeline.examples(task, [doc for doc, _ in again])
    weights = _bounded(np.array([weight for _, weight in again]), new=len(examples))
    for example, weight in zip(replayed, weights.tolist(), strict=True):
        set_sample_weight(example.reference, weight)
    return [*examples, *replayed, *pipeline.examples(task, guessed)]


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


def _bounded(weights: Floats, *, new: int) -> Floats:
    """The same in proportion, together no more than they may count beside so many new examples."""
    most = max(float(len(weights)), MOST_PER_NEW * new)
    return weights * min(1.0, most / max(float(weights.sum()), 1.0))


def _chances(pipe: Any, pool: Sequence[Doc], budget: int) -> Floats:
    """Of each document of the pool the chance to be drawn."""
    losses = pipe.document_losses(pool) if isinstance(pipe, BaseTextCategorizer) else None
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
