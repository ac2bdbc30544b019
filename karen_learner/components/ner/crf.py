"""Inference in linear chains, vectorised over a batch: sums over all tag sequences, and the best one.

Everything is time-major and padded: scores have the shape (steps, chains, tags), chains are in the order
of falling length, so that those that are still going on at a step are the first ones.

    Lafferty, McCallum, Pereira: Conditional Random Fields, ICML 2001.
    Rabiner: A Tutorial on Hidden Markov Models, Proc. IEEE 77 (1989), section V.A, for the scaling.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

SMALLEST = 1e-200
"""What an allowed tag is worth at least: no allowed sequence is lost to underflow."""


@dataclass(frozen=True)
class ChainScores:
    """What the tags of sequences are worth, in log space; `-inf` is forbidden.

    `emissions` (steps, chains, tags); `transitions` (tags, tags), from row to column; `start` and `end`
    (tags,); `lengths` (chains,), none 0 and falling.
    """

    emissions: Floats
    transitions: Floats
    start: Floats
    end: Floats
    lengths: Ints

    @property
    def active(self) -> Ints:
        """How many chains have a token at each step; shape (steps,)."""
        steps = np.arange(len(self.emissions))
        return np.asarray((self.lengths[None, :] > steps[:, None]).sum(axis=1), dtype=np.int64)


@dataclass(frozen=True)
class ChainSums:
    """Sums over all sequences that are allowed.

    `log_partition` (chains,); `marginals` (steps, chains, tags), zero where there is no token;
    `transitions` (tags, tags): how often each is expected in the batch, by what the chains count.
    """

    log_partition: Doubles
    marginals: Doubles
    transitions: Doubles


def forward_backward(
    scores: ChainScores, *, allowed: Mask | None = None, counts: Floats | None = None
) -> ChainSums:
    """The sums over all sequences, or over those whose tags are all `allowed` (shape of the emissions).

    `counts` (chains,): what each chain counts among the expected transitions; 1 if it is not given.
    """
    active = scores.active
    potentials, peaks = _potentials(scores, allowed)
    steps = np.exp(scores.transitions.astype(np.float64))
    alphas, scales = _forward(potentials, steps, np.exp(scores.start.astype(np.float64)), active)
    last = (scores.lengths - 1, np.arange(len(scores.lengths)))
    ends = np.exp(scores.end.astype(np.float64))
    totals = np.maximum(alphas[last] @ ends, SMALLEST)
    betas, pulls = _backward(potentials, scales, steps, ends / totals[:, None], active)
    there = np.arange(len(active))[:, None] < scores.lengths[None, :]
    log_partition = np.log(totals) + (np.where(there, np.log(scales) + peaks, 0.0)).sum(axis=0)
    pairs = there[1:]
    counted = alphas if counts is None else alphas * counts[:, None]
    expected = (counted[:-1][pairs].T @ pulls[1:][pairs]) * steps
    return ChainSums(log_partition, alphas * betas, expected)


def _potentials(scores: ChainScores, allowed: Mask | None) -> tuple[Doubles, Doubles]:
    """`exp(emission - peak)`, and the peak of each token."""
    emissions = scores.emissions.astype(np.float64)
    if allowed is not None:
        emissions[~allowed] = -np.inf
    peaks = emissions.max(axis=2)
    potentials = np.exp(emissions - peaks[:, :, None])
    np.maximum(potentials, SMALLEST, out=potentials)
    if allowed is not None:
        potentials[~allowed] = 0.0
    return potentials, peaks


def _forward(potentials: Doubles, steps: Doubles, start: Doubles, active: Ints) -> tuple[Doubles, Doubles]:
    """Probabilities of each tag given what stands before it, and what they were divided by."""
    alphas, scales = np.zeros_like(potentials), np.ones(potentials.shape[:2])
    for step, count in enumerate(active.tolist()):
        before = alphas[step - 1, :count] @ steps if step else start
        alpha = before * potentials[step, :count]
        scale = np.maximum(alpha.sum(axis=1), SMALLEST)
        np.divide(alpha, scale[:, None], out=alphas[step, :count])
        scales[step, :count] = scale
    return alphas, scales


def _backward(
    potentials: Doubles, scales: Doubles, steps: Doubles, ends: Doubles, active: Ints
) -> tuple[Doubles, Doubles]:
    """What follows each tag is worth, scaled like the forward pass; and that, seen from the step before."""
    betas, pulls = np.zeros_like(potentials), np.zeros_like(potentials)
    following = 0
    for step in range(len(active) - 1, -1, -1):
        count = int(active[step])
        betas[step, following:count] = ends[following:count]
        if following:
            betas[step, :following] = pulls[step + 1, :following] @ steps.T
        pulls[step, :count] = potentials[step, :count] * betas[step, :count] / scales[step, :count, None]
        following = count
    return betas, pulls


def best_sequences(scores: ChainScores) -> Ints:
    """The best sequence of each chain (Viterbi); shape (steps, chains), -1 where there is no token."""
    active = scores.active
    back = np.zeros(scores.emissions.shape, dtype=np.int32)
    best = scores.emissions[0] + scores.start
    towards = np.ascontiguousarray(scores.transitions.T)
    for step in range(1, len(active)):
        count = int(active[step])
        through = best[:count, None, :] + towards
        back[step, :count] = through.argmax(axis=2)
        reached = np.take_along_axis(through, back[step, :count, :, None], axis=2)[:, :, 0]
        best[:count] = reached + scores.emissions[step, :count]
    return _traced(back, (best + scores.end).argmax(axis=1), active)


def _traced(back: NDArray[np.int32], last: Ints, active: Ints) -> Ints:
    tags = np.full(back.shape[:2], -1, dtype=np.int64)
    for step in range(len(active) - 1, -1, -1):
        count = int(active[step])
        tags[step, :count] = last[:count]
        last[:count] = back[step, np.arange(count), last[:count]]
    return tags
