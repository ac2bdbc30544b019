"""Inference in chains against enumeration: sums and best sequences."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from karen_learner.components.ner.crf import ChainScores, best_sequences, forward_backward
from karen_learner.components.ner.weights import forbidden_starts, forbidden_transitions

TAGS = 5
LENGTHS = np.array([4, 3, 3, 1])


def chain_scores(seed: int, *, spread: float = 1.0) -> ChainScores:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return (spread * rng.normal(size=shape)).astype(np.float32)

    transitions = np.where(forbidden_transitions(TAGS), np.float32(-np.inf), draw(TAGS, TAGS))
    start = np.where(forbidden_starts(TAGS), np.float32(-np.inf), draw(TAGS))
    return ChainScores(draw(4, len(LENGTHS), TAGS), transitions, start, draw(TAGS), LENGTHS)


def value(scores: ChainScores, chain: int, tags: tuple[int, ...]) -> float:
    total = float(scores.start[tags[0]]) + float(scores.end[tags[-1]])
    total += sum(float(scores.emissions[step, chain, tag]) for step, tag in enumerate(tags))
    return total + sum(float(scores.transitions[pair]) for pair in pairwise(tags))


def sequences(scores: ChainScores, chain: int, allowed: np.ndarray) -> dict[tuple[int, ...], float]:
    every = product(range(TAGS), repeat=int(scores.lengths[chain]))
    return {
        tags: value(scores, chain, tags)
        for tags in every
        if all(allowed[step, chain, tag] for step, tag in enumerate(tags))
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("constrained", [False, True])
def test_sums_are_those_of_enumeration(seed: int, constrained: bool) -> None:
    scores = chain_scores(seed)
    allowed = np.ones(scores.emissions.shape, dtype=bool)
    if constrained:
        allowed[1, 0] = [False, True, False, True, False]
        allowed[2, 1] = [True, False, False, False, True]
    sums = forward_backward(scores, allowed=allowed if constrained else None)
    expected = np.zeros((TAGS, TAGS))
    for chain, length in enumerate(LENGTHS):
        values = sequences(scores, chain, allowed)
        total = np.logaddexp.reduce(list(values.values()))
        assert sums.log_partition[chain] == pytest.approx(total)
        marginals = np.zeros((len(scores.emissions), TAGS))
        for tags, worth in values.items():
            probability = np.exp(worth - total)
            marginals[np.arange(length), tags] += probability
            np.add.at(expected, (tags[:-1], tags[1:]), probability)
        assert sums.marginals[:, chain] == pytest.approx(marginals, abs=1e-9)
    assert sums.transitions == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_the_best_sequence_is_that_of_enumeration(seed: int) -> None:
    scores = chain_scores(seed)
    best = best_sequences(scores)
    everything = np.ones(scores.emissions.shape, dtype=bool)
    for chain, length in enumerate(LENGTHS):
        values = sequences(scores, chain, everything)
        assert tuple(best[:length, chain]) == max(values, key=lambda tags: values[tags])
        assert (best[length:, chain] == -1).all()


@pytest.mark.parametrize("seed", range(4))
def test_one_chain_gets_the_same_sequence_alone(seed: int) -> None:
    scores = chain_scores(seed)
    best = best_sequences(scores)
    for chain, length in enumerate(LENGTHS.tolist()):
        emissions = scores.emissions[:length, chain : chain + 1]
        alone = replace(scores, emissions=emissions, lengths=LENGTHS[chain : chain + 1])
        assert (best_sequences(alone)[:, 0] == best[:length, chain]).all()


def test_sums_stay_finite_however_large_the_scores() -> None:
    scores = chain_scores(0, spread=400.0)
    scores.transitions[np.isfinite(scores.transitions)] = 0.0
    sums = forward_backward(scores)
    assert np.isfinite(sums.log_partition).all()
    assert sums.marginals.sum(axis=2)[0] == pytest.approx(1.0)
