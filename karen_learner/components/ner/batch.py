"""A batch of texts as a linear chain sees it: features in, scores and gradients out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from thinc.api import NumpyOps

from karen_learner.components.ner.crf import ChainScores
from karen_learner.components.ner.features import NO_FEATURE, Segments, TokenFeatures
from karen_learner.components.ner.tags import UNKNOWN
from karen_learner.components.ner.weights import BIAS, END, FIRST_TRANSITION, START, chain_scores_of
from karen_learner.components.online.feature_index import BucketRows, each_once

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Places = NDArray[np.int32]

_OPS: Any = NumpyOps()
CONTEXT_WORDS = 16
"""In a longer segment the words of the context count less each."""


@dataclass(frozen=True)
class ChainBatch:
    """Which features a batch has, and where.

    `buckets` (features,): each once. `tokens` (tokens, places) and `contexts` (segments, words): positions
    among them; what lies beyond the last one stands for no feature. `scale` makes up for what was dropped.
    """

    segments: Segments
    buckets: Ints
    tokens: Places
    contexts: Places
    scale: float = 1.0

    @classmethod
    def of(cls, features: TokenFeatures, segments: Segments, table: BucketRows) -> "ChainBatch":
        """Look up the buckets of the features."""
        hashes = np.concatenate([features.tokens.ravel(), features.contexts.ravel()])
        buckets, places = each_once(table.buckets_of(hashes), 1 << table.bits)
        places[hashes == NO_FEATURE] = len(buckets)
        size = features.tokens.size
        tokens = places[:size].reshape(features.tokens.shape)
        return cls(segments, buckets, tokens, places[size:].reshape(features.contexts.shape))

    @property
    def steps_and_chains(self) -> tuple[Ints, Ints]:
        """Of each token its step and its chain."""
        lengths = self.segments.lengths
        chains = np.repeat(np.arange(len(lengths)), lengths)
        return np.arange(len(chains)) - np.repeat(np.cumsum(lengths) - lengths, lengths), chains

    @property
    def context_weights(self) -> Floats:
        """What the words of a context count, so that those of a long one do not drown the rest."""
        return np.minimum(1.0, CONTEXT_WORDS / self.segments.lengths).astype(np.float32)[:, None]

    def scores(self, feature_weights: Floats, chain: Floats) -> ChainScores:
        """What the tags of the segments are worth under these weights (see `chain_weights`)."""
        steps, chains = self.steps_and_chains
        if self.scale != 1.0:
            feature_weights = feature_weights * np.float32(self.scale)
        padded = np.concatenate([feature_weights, np.zeros((1, chain.shape[1]), dtype=np.float32)])
        of_tokens = _OPS.gather_add(padded, self.tokens)
        of_tokens += (_OPS.gather_add(padded, self.contexts) * self.context_weights)[chains]
        of_tokens += chain[BIAS]
        shape = (int(self.segments.lengths.max(initial=0)), len(self.segments), chain.shape[1])
        emissions = np.zeros(shape, dtype=np.float32)
        emissions[steps, chains] = of_tokens
        return ChainScores(emissions, *chain_scores_of(chain), self.segments.lengths)

    def dropped(self, share: float, rng: np.random.Generator) -> "ChainBatch":
        """The same without this share of the features, each place for itself."""
        nothing = np.int32(len(self.buckets))
        tokens, contexts = (
            np.where(rng.random(places.shape, dtype=np.float32) < share, nothing, places)
            for places in (self.tokens, self.contexts)
        )
        return replace(self, tokens=tokens, contexts=contexts, scale=1.0 / (1.0 - share))

    def allowed(self, tags: Sequence[Ints], count: int) -> NDArray[np.bool_]:
        """Which of `count` tags may stand where, if the tags of the segments are these; shape as emissions.

        UNKNOWN leaves all of them open.
        """
        steps, chains = self.steps_and_chains
        flat = np.concatenate(tags)
        allowed = np.ones((int(self.segments.lengths.max()), len(self.segments), count), dtype=bool)
        known = flat != UNKNOWN
        allowed[steps[known], chains[known]] = False
        allowed[steps[known], chains[known], flat[known]] = True
        return allowed

    def gradient(self, tags: Doubles, transitions: Doubles) -> tuple[Floats, Floats]:
        """The gradient of the weights of features and chain, from that of tags and transitions.

        `tags` has shape (steps, chains, tags), and so have the emissions.
        """
        steps, chains = self.steps_and_chains
        of_tokens = tags[steps, chains].astype(np.float32)
        of_chains = tags.sum(axis=0).astype(np.float32) * self.context_weights
        total = np.zeros((len(self.buckets) + 1, tags.shape[2]), dtype=np.float32)
        for places, values in ((self.tokens, of_tokens), (self.contexts, of_chains)):
            for column in range(places.shape[1]):
                _OPS.scatter_add(total, np.ascontiguousarray(places[:, column]), values)
        last = tags[self.segments.lengths - 1, np.arange(len(self.segments))]
        chain = np.zeros((FIRST_TRANSITION + tags.shape[2], tags.shape[2]), dtype=np.float32)
        chain[START], chain[END], chain[BIAS] = tags[0].sum(axis=0), last.sum(axis=0), of_tokens.sum(axis=0)
        chain[FIRST_TRANSITION:] = transitions
        return total[:-1] * np.float32(self.scale), chain
