"""Samplers: which examples or events are used if there are more than places. Pure.

A sampler gives a priority from a time (seconds since 1970) and a uniform draw of the item (0 to 1). The items
with the highest priorities are used. The setting `learning.sampler` names the one of curation. A package adds
a sampler by an entry point in the group `karen_learner_samplers`: its name, and a `Sampler`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from karen_learner.registry import Registry

Sampler = Callable[[float, float], float]
"""The priority of an item of a time, with a uniform draw."""

HALF_LIFE_S = 7 * 86_400.0
"""Age difference that halves the weight of an item in the sampler `exponential`."""
_SMALLEST = 1e-300


def sliding_window(at: float, draw: float) -> float:  # noqa: ARG001 - the form of a sampler
    """The newest items."""
    return at


def uniform(at: float, draw: float) -> float:  # noqa: ARG001 - the form of a sampler
    """Any items, with equal probability."""
    return draw


def exponential(at: float, draw: float) -> float:
    """Items with probabilities that halve every `HALF_LIFE_S` of age, without replacement.

    The highest `log(weight) + Gumbel noise` are such a sample (Kool, van Hoof and Welling, 2019).
    """
    noise = -math.log(-math.log(min(max(draw, _SMALLEST), 1.0 - 1e-16)))
    return at * math.log(2.0) / HALF_LIFE_S + noise


_OWN: dict[str, Sampler] = {
    "sliding_window": sliding_window,
    "uniform": uniform,
    "exponential": exponential,
}
SAMPLERS = Registry("sampler", "karen_learner_samplers", _OWN)
