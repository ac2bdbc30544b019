"""What a training loop may ask of a model whose weights are not parameters of thinc's."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from thinc.api import Model


@runtime_checkable
class OnlineTrainable(Protocol):
    """A `Shim` that holds weights and steps by a rule of its own, at its own learn rate.

    A loop scales that rate through `learn_rate_scale` (1.0: as configured).
    """

    learn_rate_scale: float

    def prepare_to_learn(self) -> None:
        """Read what only learning needs, if it still lies on the disk. The first update does, otherwise."""

    def discard_gradients(self) -> None:
        """Forget the gradients that wait for `finish_update`."""

    def all_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""


def online_trainables(model: Model[Any, Any]) -> Iterator[OnlineTrainable]:
    """All of them in the model; none in a stock model."""
    return (shim for node in model.walk() for shim in node.shims if isinstance(shim, OnlineTrainable))


def prepare_to_learn(model: Model[Any, Any]) -> None:
    """Let the model read its state now rather than in the first update. A stock model is left alone."""
    for own in online_trainables(model):
        own.prepare_to_learn()


def scale_learn_rate(model: Model[Any, Any], share: float) -> None:
    """Let the model step at this share of the learn rates in its config. A stock model is left alone."""
    for own in online_trainables(model):
        own.learn_rate_scale = share
