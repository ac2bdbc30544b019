"""Linear-chain conditional random field over a batch: scores, sums over all tag sequences, the best sequence.

Arrays are time-major and padded, with the shape (steps, chains, tags). Chains are ordered by descending
length, so that the chains active at a step come first.

    Lafferty, McCallum, Pereira: Conditional Random Fields, ICML 2001.
    Rabiner: A Tutorial on Hidden Markov Models, Proc. IEEE 77 (1989), section V.A, for the scaling.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from thinc.api import NumpyOps

from karen_learner.components.arrays import Doubles, Floats, Ints, Mask, Places
from karen_learner.components.ner.features import Segments, TokenFeatures
from karen_learner.components.ner.tags import OUTSIDE, TAGS_PER_LABEL, UNKNOWN
from karen_learner.components.ner.weights import BIAS, END, FIRST_TRANSITION, START, chain_scores_of
from karen_learner.components.online.feature_rows import BucketRows, unique_below

SMALLEST = 1e-200
"""Lower bound of an allowed potential. It prevents underflow."""
CONTEXT_WORDS = 16
"""In a longer segment each context word has a smaller weight."""
_OPS: Any = NumpyOps()


@dataclass(frozen=True)
class ChainScores:
    """Scores of tags in log space; `-inf` is forbidden.

    `emissions` (steps, chains, tags); `transitions` (tags, tags), from row to column; `start` and `end`
    (tags,); `lengths` (chains,), positive and descending.
    """

    emissions: Floats
    transitions: Floats
    start: Floats
    end: Floats
    lengths: Ints

    @property
    def active(self) -> Ints:
        """Number of chains with a token at each step; shape (steps,)."""
        steps = np.arange(len(self.emissions))
        return np.asarray((self.lengths[None, :] > steps[:, None]).sum(axis=1), dtype=np.int64)


@dataclass(frozen=True)
class ChainSums:
    """Sums over all allowed tag sequences.

    `log_partition` (chains,); `marginals` (steps, chains, tags), zero without a token; `transitions`
    (tags, tags): expected counts in the batch, weighted by chain.
    """

    log_partition: Doubles
    marginals: Doubles
    transitions: Doubles


@dataclass(frozen=True)
class ChainBatch:
    """Features of a batch.

    `buckets` (features,): each once. `tokens` (tokens, places) and `contexts` (segments, words): positions
    among them; the position after the last one means no feature. `scale` compensates dropout.
    """

    segments: Segments
    buckets: Ints
    tokens: Places
    contexts: Places
    scale: float = 1.0

    @classmethod
    def from_features(cls, features: TokenFeatures, segments: Segments, table: BucketRows) -> "ChainBatch":
        """The batch with the buckets of these features."""
        flat = np.concatenate([features.tokens.ravel(), features.contexts.ravel()])
        no_bucket = 1 << table.bits
        buckets, places = unique_below(no_bucket + 1, flat)
        if len(buckets) and buckets[-1] == no_bucket:  # it stays the place after the last one
            buckets = buckets[:-1]
        size = features.tokens.size
        tokens = places[:size].reshape(features.tokens.shape)
        return cls(segments, buckets, tokens, places[size:].reshape(features.contexts.shape))

    def scores(self, feature_weights: Floats, chain: Floats) -> ChainScores:
        """Scores of the tags under these weights (see `LearningChain.chain`)."""
        if self.scale != 1.0:
            feature_weights = feature_weights * np.float32(self.scale)
        padded = np.concatenate([feature_weights, np.zeros((1, chain.shape[1]), dtype=np.float32)])
        tokens, contexts = (_OPS.gather_add(padded, places) for places in (self.tokens, self.contexts))
        return scores_of(self.segments, chain, tokens=tokens, contexts=contexts)

    def with_dropout(self, rate: float, rng: np.random.Generator) -> "ChainBatch":
        """The batch without this share of its features, drawn for each place."""
        nothing = np.int32(len(self.buckets))
        tokens, contexts = (
            np.where(rng.random(places.shape, dtype=np.float32) < rate, nothing, places)
            for places in (self.tokens, self.contexts)
        )
        return replace(self, tokens=tokens, contexts=contexts, scale=1.0 / (1.0 - rate))

    def allowed(self, tags: Sequence[Ints], count: int) -> Mask:
        """Mask of the tags (of `count`) that these gold tags allow; shape as emissions. UNKNOWN allows
        all."""
        steps, chains = steps_and_chains(self.segments)
        flat = np.concatenate(tags)
        allowed = np.ones((int(self.segments.lengths.max()), len(self.segments), count), dtype=bool)
        known = flat != UNKNOWN
        allowed[steps[known], chains[known]] = False
        allowed[steps[known], chains[known], flat[known]] = True
        return allowed

    def gradient(self, tags: Doubles, transitions: Doubles) -> tuple[Floats, Floats]:
        """Gradients of feature weights and chain weights, from those of tags and transitions.

        `tags` has the shape (steps, chains, tags) of the emissions.
        """
        steps, chains = steps_and_chains(self.segments)
        by_token = tags[steps, chains].astype(np.float32)
        by_chain = tags.sum(axis=0).astype(np.float32) * context_weights(self.segments)
        total = np.zeros((len(self.buckets) + 1, tags.shape[2]), dtype=np.float32)
        for places, values in ((self.tokens, by_token), (self.contexts, by_chain)):
            for column in range(places.shape[1]):
                _OPS.scatter_add(total, np.ascontiguousarray(places[:, column]), values)
        last = tags[self.segments.lengths - 1, np.arange(len(self.segments))]
        chain = np.zeros((FIRST_TRANSITION + tags.shape[2], tags.shape[2]), dtype=np.float32)
        chain[START], chain[END], chain[BIAS] = tags[0].sum(axis=0), last.sum(axis=0), by_token.sum(axis=0)
        chain[FIRST_TRANSITION:] = transitions
        return total[:-1] * np.float32(self.scale), chain


def steps_and_chains(segments: Segments) -> tuple[Ints, Ints]:
    """Step and chain of each token."""
    lengths = segments.lengths
    chains = np.repeat(np.arange(len(lengths)), lengths)
    return np.arange(len(chains)) - np.repeat(np.cumsum(lengths) - lengths, lengths), chains


def context_weights(segments: Segments) -> Floats:
    """Weight of a context word in each segment. Long contexts must not dominate."""
    return np.minimum(1.0, CONTEXT_WORDS / segments.lengths).astype(np.float32)[:, None]


def scores_of(segments: Segments, chain: Floats, *, tokens: Floats, contexts: Floats) -> ChainScores:
    """Scores of the tags from the sums of feature weights: `tokens` (tokens, tags), `contexts` (segments,
    tags)."""
    steps, chains = steps_and_chains(segments)
    tokens = tokens + (contexts * context_weights(segments))[chains] + chain[BIAS]
    emissions = np.zeros((segments.max_length, len(segments), chain.shape[1]), dtype=np.float32)
    emissions[steps, chains] = tokens
    return ChainScores(emissions, *chain_scores_of(chain), segments.lengths)


def forward_backward(
    scores: ChainScores, *, allowed: Mask | None = None, chain_weights: Floats | None = None
) -> ChainSums:
    """Sums over all sequences, or over those with only `allowed` tags (shape of the emissions).

    `chain_weights` (chains,) are the weights of the chains in the expected transitions; 1 by default.
    """
    active = scores.active
    potentials, peaks = _potentials(scores, allowed)
    steps = np.exp(scores.transitions.astype(np.float64))
    alphas, scales = _forward(potentials, steps, np.exp(scores.start.astype(np.float64)), active)
    last = (scores.lengths - 1, np.arange(len(scores.lengths)))
    ends = np.exp(scores.end.astype(np.float64))
    totals = np.maximum(alphas[last] @ ends, SMALLEST)
    betas, weighted_betas = _backward(potentials, scales, steps, ends / totals[:, None], active)
    present = np.arange(len(active))[:, None] < scores.lengths[None, :]
    log_partition = np.log(totals) + (np.where(present, np.log(scales) + peaks, 0.0)).sum(axis=0)
    pairs = present[1:]
    weighted = alphas if chain_weights is None else alphas * chain_weights[:, None]
    expected = (weighted[:-1][pairs].T @ weighted_betas[1:][pairs]) * steps
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
    """Probabilities of each tag given the tokens up to it, and their normalizers."""
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
    """Backward sums of each tag, scaled like the forward pass; and the same as seen from the step before."""
    betas, weighted_betas = np.zeros_like(potentials), np.zeros_like(potentials)
    following = 0
    for step in range(len(active) - 1, -1, -1):
        count = int(active[step])
        betas[step, following:count] = ends[following:count]
        if following:
            betas[step, :following] = weighted_betas[step + 1, :following] @ steps.T
        weighted_betas[step, :count] = (
            potentials[step, :count] * betas[step, :count] / scales[step, :count, None]
        )
        following = count
    return betas, weighted_betas


def best_sequences(scores: ChainScores) -> Ints:
    """The best sequence of each chain (Viterbi); shape (steps, chains), -1 without a token."""
    if scores.emissions.shape[1] == 1:
        return _best_sequence(scores)[:, None]
    active, transitions = scores.active.tolist(), scores.transitions
    # Chains come last, because NumPy is fast along a long last axis.
    best = np.ascontiguousarray(scores.emissions.transpose(0, 2, 1))
    best[0] += scores.start[:, None]
    # O and B- follow every tag, I- only B- and I- of its label (see `tags`). That halves the sums.
    free = np.append(OUTSIDE, np.arange(1, best.shape[1], TAGS_PER_LABEL))
    into_free = np.ascontiguousarray(transitions[:, free])[:, :, None]
    from_begin, from_inside = transitions.diagonal(1)[1::2, None], transitions.diagonal()[2::2, None]
    for step, count in enumerate(active[1:], start=1):
        before, row = best[step - 1, :, :count], best[step, :, :count]
        row[free] += (before[:, None] + into_free).max(axis=0)
        row[2::2] += np.maximum(before[1::2] + from_begin, before[2::2] + from_inside)
    tags = np.full((len(best), best.shape[2]), -1, dtype=np.int64)
    following = 0
    for step in range(len(active) - 1, -1, -1):
        count = active[step]
        ending = best[step, :, following:count] + scores.end[:, None]
        tags[step, following:count] = ending.argmax(axis=0)
        if following:
            through = best[step, :, :following] + transitions[:, tags[step + 1, :following]]
            tags[step, :following] = through.argmax(axis=0)
        following = count
    return tags


def _best_sequence(scores: ChainScores) -> Ints:
    """The best sequence of the only chain; shape (steps,). One chain needs fewer and smaller arrays."""
    best = scores.emissions[:, 0].copy()
    best[0] += scores.start
    rows, through = list(best), np.empty_like(scores.transitions)
    for before, row in pairwise(rows):
        np.add(before[:, None], scores.transitions, out=through)
        row += np.maximum.reduce(through, axis=0)
    into = list(np.ascontiguousarray(scores.transitions.T))
    tag = int((rows[-1] + scores.end).argmax())
    tags = [tag]
    for row in reversed(rows[:-1]):
        tag = int((row + into[tag]).argmax())
        tags.append(tag)
    return np.array(tags[::-1], dtype=np.int64)
