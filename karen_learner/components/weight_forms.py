"""What a `LearningShim` asks of its weights, in the form that learns and in the one that serves."""

from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from karen_learner.components.feature_rows import FeatureRows, RowOptions, ServedRows

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]
Step = tuple[NDArray[np.int64], Floats, Floats]
"""Buckets (each once), the gradient of their rows, and that of the weights that belong to no feature."""


class ServedForm(Protocol):
    """Weights of features and some others, in eight bits."""

    @property
    def rows(self) -> ServedRows:
        """The weights of the features."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""

    def digest(self) -> str:
        """Tells these weights from all others."""

    def arrays(self) -> Arrays:
        """What `from_arrays` takes."""

    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self:
        """Raises ValueError if the arrays do not belong together."""


ServedT = TypeVar("ServedT", bound=ServedForm)


class LearningForm(Protocol[ServedT]):
    """The same, with all that learning on needs."""

    rows: FeatureRows

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""

    def step(
        self, buckets: NDArray[np.int64], gradient: Floats, other: Floats, /, *, learn_rate: float
    ) -> None:
        """Move the weights against the gradients."""

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""

    def served(self) -> ServedT:
        """The same in the form that serves."""

    def arrays(self) -> Arrays:
        """What `from_arrays` takes."""

    @classmethod
    def new(cls, options: RowOptions, labels: int) -> Self:
        """Weights that know nothing."""

    @classmethod
    def from_arrays(cls, options: RowOptions, arrays: Arrays) -> Self:
        """Raises ValueError if the arrays do not belong together."""

    @classmethod
    def from_served(cls, options: RowOptions, served: ServedT) -> Self:
        """Where nothing but the served weights is left: they go on from there."""


LearningT = TypeVar("LearningT", bound=LearningForm[Any])
