"""What models whose weights learn on the fly have in common, whatever they compute.

The weights are no parameters of thinc's: they live in a `Shim` (see `own_weights`), in one of two forms. The
one that serves is small; the one that learns is read, when it is needed, from a state that lies apart.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from thinc.api import Model
from thinc.shims import Shim

from karen_learner.components.feature_rows import RowOptions
from karen_learner.components.learning_state import LearningState
from karen_learner.components.row_coding import pack, unpack
from karen_learner.components.weight_forms import Arrays, LearningT, ServedT, Step
from karen_learner.errors import ModelError

PendingT = TypeVar("PendingT")
ShimT = TypeVar("ShimT", bound=Shim)

_SERVED, _LEARNING = b"S", b"L"
_WITHOUT_STATE = "Else restore the file; or delete it and load the model, to learn on from what serves"


class LearningShim(Shim, Generic[LearningT, ServedT, PendingT]):
    """Weights, and the gradients that wait for `finish_update`.

    Subclasses name their `architecture`, and know what to make of the weights.
    """

    architecture: ClassVar[str]

    def __init__(
        self, learning: type[LearningT], served: type[ServedT], options: RowOptions, *, learn_rate: float
    ) -> None:
        super().__init__(None)
        self.learn_rate_scale = 1.0
        self._learn_rate = learn_rate
        self._options = options
        self._learning_form, self._served_form = learning, served
        self._learning: LearningT | None = learning.new(options, 0)
        self._served: ServedT | None = None
        self._exported: ServedT | None = None
        self._state: LearningState | None = None
        self._pending: list[PendingT] = []

    @property
    def labels(self) -> int:
        """How many labels there are."""
        return self._weights.labels

    @property
    def rows(self) -> int:
        """How many features have weights."""
        return len(self._weights.rows.table) - 1

    @property
    def is_learning(self) -> bool:
        """Whether the state for learning is in memory; a model loaded for serving leaves it on the disk."""
        return self._learning is not None

    @property
    def nbytes(self) -> int:
        """Bytes of weights in memory, of whatever form they are in."""
        return self._weights.nbytes

    @property
    def learn_rate(self) -> float:
        """This model's own, as the training loop has scaled it."""
        return self._learn_rate * self.learn_rate_scale

    def _step(self, steps: Sequence[Step]) -> None:
        """Move the weights against the sum of these gradients, at this model's own learn rate."""
        if steps:
            self.learning_weights().step(_summed(steps), learn_rate=self.learn_rate)

    def discard_gradients(self) -> None:
        """Forget what waits for `finish_update`."""
        self._pending = []

    def all_finite(self) -> bool:
        """Whether no weight that learns is NaN or infinite."""
        return self._learning is None or self._learning.all_finite()

    def reset(self, labels: int) -> None:
        """Begin from nothing, with so many labels."""
        self._learning, self._served = self._learning_form.new(self._options, labels), None
        self._state, self._pending = None, []

    def prepare_to_learn(self) -> None:
        """Read the learning state if it was not read before. Raises ModelError as `learning_weights` does."""
        self.learning_weights()

    def learning_weights(self) -> LearningT:
        """The weights in the form that learns; the state is read now if it has not been before.

        Raises ModelError if the state is not that of the weights that serve.
        """
        if self._learning is None:
            self._learning = self._read_state()
            self._served = self._state = None
        return self._learning

    def served_weights(self) -> ServedT:
        """The weights in the form that serves."""
        if self._served is not None:
            return self._served
        served: ServedT = self.learning_weights().served()
        return served

    def _read_state(self) -> LearningT:
        state = self._checked_state()
        if state is None:
            return self._learning_form.from_served(self._options, self.served_weights())
        data, where = state
        try:
            return self._learning_form.from_arrays(self._options, unpack(data))
        except ValueError as error:
            raise ModelError(f"the learning state {where} is damaged: {error}. {_WITHOUT_STATE}") from error

    def _checked_state(self) -> tuple[bytes, str] | None:
        """The state of the weights that serve, and where it lies; None if there is none."""
        if self._state is None:
            return None
        data, where = self._state.read(), self._state.where
        digest = self._digest()
        if data[: len(digest)] != digest:
            raise ModelError(
                f"the learning state {where} belongs to other weights than those that were loaded. If the "
                f"folder was overwritten, load the model again before it learns on. {_WITHOUT_STATE}"
            )
        return data[len(digest) :], where

    def _digest(self) -> bytes:
        return self.served_weights().digest().encode("ascii")

    @contextmanager
    def serving_form(self) -> Iterator[None]:
        """While it lasts, `to_bytes` gives what serves and nothing else."""
        self._exported = self.served_weights()
        try:
            yield
        finally:
            self._exported = None

    def served_bytes(self) -> bytes:
        """The weights that serve. `from_bytes` understands them."""
        return _SERVED + self._packed((self._exported or self.served_weights()).arrays())

    def state_bytes(self) -> bytes | None:
        """The learning state to go with `served_bytes`; None if there is none any more."""
        if self._learning is None:
            state = self._checked_state()
            return None if state is None else self._digest() + state[0]
        served = self._exported or self._learning.served()
        return served.digest().encode("ascii") + pack(self._learning.arrays())

    def attach_state(self, state: LearningState | None) -> None:
        """Say where the learning state of the weights that serve can be had."""
        self._state = state

    def _copied_to(self, other: Self) -> Self:
        """Give another shim, as new, these weights and their state for learning on."""
        other.from_bytes(self.to_bytes())
        other.attach_state(self._state)
        return other

    @contextmanager
    def nothing_learned(self) -> Iterator[None]:
        """While it lasts, gradients that come in are dropped; those that wait already go on waiting."""
        waiting, self._pending = self._pending, []
        try:
            yield
        finally:
            self._pending = waiting

    def to_bytes(self) -> bytes:
        """All of it: in the form that learns if that is in memory, else in the form that serves."""
        if self._learning is None or self._exported is not None:
            return self.served_bytes()
        return _LEARNING + self._packed(self._learning.arrays())

    def from_bytes(self, data: bytes) -> Self:
        """Take over what `to_bytes` or `served_bytes` has made. Raises ValueError if it is neither."""
        self._take_over(data[:1], unpack(data[1:]))
        return self

    def _packed(self, arrays: Arrays) -> bytes:
        return pack(arrays)

    def _take_over(self, form: bytes, arrays: Arrays) -> None:
        """The inverse of `_packed`."""
        if form == _LEARNING:
            self._learning, self._served = self._learning_form.from_arrays(self._options, arrays), None
        elif form == _SERVED:
            self._learning, self._served = None, self._served_form.from_arrays(self._options.bits, arrays)
        else:
            raise ValueError(f"these are not the weights of {self.architecture}")
        self._state, self._pending = None, []

    @property
    def _weights(self) -> LearningT | ServedT:
        return self._learning if self._learning is not None else self.served_weights()


def first_shim(model: Model[Any, Any], kind: type[ShimT]) -> ShimT | None:
    """The first shim of this kind in the model, if there is one."""
    found = (shim for node in model.walk() for shim in node.shims if isinstance(shim, kind))
    return next(found, None)


def _summed(steps: Sequence[Step]) -> Step:
    """One step out of several: gradients of the same weight add up."""
    if len(steps) == 1:
        return steps[0]
    buckets = np.unique(np.concatenate([step.buckets for step in steps]))
    columns = np.unique(np.concatenate([step.columns for step in steps]))
    total = np.zeros((len(buckets), len(columns)), dtype=np.float32)
    for step in steps:
        places = np.searchsorted(buckets, step.buckets), np.searchsorted(columns, step.columns)
        total[np.ix_(*places)] += step.gradient
    return Step(buckets, columns, total, np.sum([step.other for step in steps], axis=0))
