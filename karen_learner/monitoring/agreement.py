"""The score of a prediction when its answer is known, for labels, numbers and structures. Pure.

- Equal values score 1.
- Numbers: 1 minus the relative error, at least 0. The relative error is that to the larger absolute value.
- Mappings: the mean over the fields of both; a missing field scores 0.
- Sequences: the mean over the places of the longer one.
- Texts: equal after case folding and collapsing of white space, else 0. All other pairs score 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MAX_DEPTH = 20
"""Levels of nested values that are compared; deeper ones must be equal."""


def agreement(predicted: Any, actual: Any, *, depth: int = 0) -> float:
    """The score of `predicted` against `actual`, 0 to 1."""
    if isinstance(predicted, bool) or isinstance(actual, bool):
        return float(predicted is actual)
    if isinstance(predicted, (int, float)) and isinstance(actual, (int, float)):
        return _of_numbers(float(predicted), float(actual))
    if isinstance(predicted, str) and isinstance(actual, str):
        return float(_plain(predicted) == _plain(actual))
    if depth < MAX_DEPTH and isinstance(predicted, Mapping) and isinstance(actual, Mapping):
        names = predicted.keys() | actual.keys()
        both = predicted.keys() & actual.keys()
        total = sum(agreement(predicted[name], actual[name], depth=depth + 1) for name in both)
        return total / len(names) if names else 1.0
    if depth < MAX_DEPTH and _is_sequence(predicted) and _is_sequence(actual):
        longer = max(len(predicted), len(actual))
        pairs = zip(predicted, actual, strict=False)
        return sum(agreement(*pair, depth=depth + 1) for pair in pairs) / longer if longer else 1.0
    return float(predicted == actual)


def _of_numbers(predicted: float, actual: float) -> float:
    if predicted == actual:
        return 1.0
    if not (math.isfinite(predicted) and math.isfinite(actual)):
        return 0.0
    largest = max(abs(predicted), abs(actual))
    return max(0.0, 1.0 - abs(predicted / largest - actual / largest))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
