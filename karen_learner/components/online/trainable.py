"""Protocol between a training loop and models that train their own weights outside thinc's parameters."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from thinc.api import Model


@runtime_checkable
class OnlineTrainable(Protocol):
    """A `Shim` with weights, an optimizer and a learn rate of its own.

    `learn_rate_scale` is a factor of the configured learn rate.
    """

    learn_rate_scale: float

    def prepare_to_learn(self) -> None:
        """Load the learning state now instead of in the first update."""

    def discard_gradients(self) -> None:
        """Remove the gradients pending for `finish_update`."""

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""


def online_trainables(model: Model[Any, Any]) -> Iterator[OnlineTrainable]:
    """The online trainable shims of the model. A stock model has none."""
    return (shim for node in model.walk() for shim in node.shims if isinstance(shim, OnlineTrainable))


def prepare_to_learn(model: Model[Any, Any]) -> None:
    """Load the learning state of the model. A stock model has none."""
    for shim in online_trainables(model):
        shim.prepare_to_learn()


def scale_learn_rate(model: Model[Any, Any], factor: float) -> None:
    """Set the factor of the configured learn rates. It has no effect on a stock model."""
    for shim in online_trainables(model):
        shim.learn_rate_scale = factor
