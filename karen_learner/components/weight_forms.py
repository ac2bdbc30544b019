"""What a `LearningShim` asks of its weights, in the form that learns and in the one that serves."""

from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from karen_learner.components.feature_rows import FeatureRows, RowOptions, ServedRows

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Step:
    """A gradient to move against.

    `gradient` (features, columns): of the weights of `buckets` (features,) in these `columns` (columns,),
    each once; in all other columns it is 0. `other`: of the weights that belong to no feature.
    """

    buckets: Ints
    columns: Ints
    gradient: Floats
    other: Floats


class WeightForm(Protocol):
    """Weights of features, and some others; `from_arrays` takes what `arrays` gives, or raises ValueError."""

    @property
    def labels(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def arrays(self) -> Arrays: ...


class ServedForm(WeightForm, Protocol):
    """In eight bits. The `digest` tells these weights from all others."""

    @property
    def rows(self) -> ServedRows: ...
    def digest(self) -> str: ...
    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self: ...


ServedT = TypeVar("ServedT", bound=ServedForm)


class LearningForm(WeightForm, Protocol[ServedT]):
    """With all that learning needs. `new` ones know nothing; those `from_served` know what served."""

    @property
    def rows(self) -> FeatureRows: ...
    def step(self, step: Step, *, learn_rate: float) -> None: ...
    def all_finite(self) -> bool: ...
    def served(self) -> ServedT: ...
    @classmethod
    def new(cls, options: RowOptions, labels: int) -> Self: ...
    @classmethod
    def from_arrays(cls, options: RowOptions, arrays: Arrays) -> Self: ...
    @classmethod
    def from_served(cls, options: RowOptions, served: ServedT) -> Self: ...


LearningT = TypeVar("LearningT", bound=LearningForm[Any])
