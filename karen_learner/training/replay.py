"""Replay: the learned examples that a pipe trains on again, with importance weights.

The pool is several times larger than the budget. Half of the inclusion probabilities are equal over labels,
half are proportional to the loss of the pipe before training. An example drawn with probability `p` has the
importance weight `1 / p`, times its weight in the pool. The expected loss then equals that of all learned
examples:

    Zhao, Zhang: Stochastic Optimization with Importance Sampling, ICML 2015.

The weights of a long history are capped: see MAX_REPLAY_RATIO.
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
Weighted = tuple[Doc, float]
"""A document of the pool and its importance weight."""

LOSS_SHARE = 0.5
"""The share of the budget that is drawn by loss. Draws that are equal over labels preserve easy examples."""
MIN_LOSS = 1e-9
"""Keeps every inclusion probability above zero."""
MAX_REPLAY_RATIO = 10.0
"""The summed weights of replayed examples are at most this many times the new examples, or their own number.
Large weights destabilise a trained model and outweigh a new label with few examples."""


def sample_replay(pipe: Any, pool: Sequence[Doc], *, budget: int, rng: random.Random) -> list[Weighted]:
    """Up to `budget` documents of the pool with importance weights; all of them if the budget suffices.

    The pool holds gold documents with labels of the pipe. A pipe without losses per document, such as
    spaCy's own, draws equally over labels.
    """
    if len(pool) <= budget:
        return [(doc, sample_weight(doc)) for doc in pool]
    probabilities = _probabilities(pipe, pool, budget)
    drawn = systematic_sample(probabilities, rng)
    return [(pool[at], sample_weight(pool[at]) / float(probabilities[at])) for at in drawn]


def training_examples(
    pipeline: TrainablePipeline,
    task: Task,
    new: Sequence[Doc],
    replayed: Sequence[Weighted],
) -> list[Example]:
    """All training examples of a pipe, with capped importance weights of the replayed ones."""
    examples = pipeline.examples(task, new, shared=True)
    replay = pipeline.examples(task, [doc for doc, _ in replayed])
    weights = _capped(np.array([weight for _, weight in replayed]), new=len(examples))
    for example, weight in zip(replay, weights.tolist(), strict=True):
        set_sample_weight(example.reference, weight)
    return [*examples, *replay]


def inclusion_probabilities(sizes: Floats, budget: float) -> Floats:
    """Probabilities proportional to `sizes` (all above 0), at most 1, with the sum `budget`.

    All are 1 if the budget covers all sizes, and 0 if it is 0 or less.
    """
    if budget <= 0.0:
        return np.zeros(len(sizes))
    probabilities = np.ones(len(sizes))
    free = np.ones(len(sizes), dtype=bool)
    while free.any():
        left = budget - (len(sizes) - free.sum())
        probabilities[free] = sizes[free] * (left / sizes[free].sum())
        if (probabilities[free] <= 1.0).all():
            break
        free &= probabilities < 1.0
        probabilities[~free] = 1.0
    return probabilities


def systematic_sample(probabilities: Floats, rng: random.Random) -> list[int]:
    """Positions by systematic sampling in random order; their number is the sum of probabilities, +- 1."""
    order = np.array(rng.sample(range(len(probabilities)), len(probabilities)), dtype=np.int64)
    reached = np.floor(np.cumsum(probabilities[order]) + rng.random())
    return sorted(order[np.diff(reached, prepend=0.0) > 0].tolist())


def _capped(weights: Floats, *, new: int) -> Floats:
    """The weights, scaled down so that their sum respects MAX_REPLAY_RATIO."""
    limit = max(float(len(weights)), MAX_REPLAY_RATIO * new)
    return weights * min(1.0, limit / max(float(weights.sum()), 1.0))


def _probabilities(pipe: Any, pool: Sequence[Doc], budget: int) -> Floats:
    losses = pipe.document_losses(pool) if isinstance(pipe, BaseTextCategorizer) else None
    by_label = _inverse_frequencies(pipe, pool)
    if losses is None:
        return inclusion_probabilities(by_label, budget)
    sizes = np.maximum(np.nan_to_num(losses).astype(np.float64), MIN_LOSS)
    by_loss = inclusion_probabilities(sizes, LOSS_SHARE * budget)
    evenly = inclusion_probabilities(by_label, (1.0 - LOSS_SHARE) * budget)
    return inclusion_probabilities(by_loss + evenly, budget)


def _inverse_frequencies(pipe: Any, pool: Sequence[Doc]) -> Floats:
    """For each document, one over the number of documents with the same labels of the pipe."""
    labels = set(pipe.labels)
    keys = [frozenset(_labels_in(doc) & labels) for doc in pool]
    counts = Counter(keys)
    return np.array([1.0 / counts[key] for key in keys])


def _labels_in(doc: Doc) -> set[str]:
    return {label for label, value in doc.cats.items() if value == 1.0} | {span.label_ for span in doc.ents}
