"""Base of models that train their own weights outside thinc's parameters, and of their pipes.

The weights are in a `Shim`, in one of two forms. The serving form is small. The training form is loaded from
a separate state when training starts.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
from spacy.pipeline import TrainablePipe
from thinc.api import Model
from thinc.shims import Shim

from karen_learner.components.arrays import Arrays, pack, split_length, unpack, with_length
from karen_learner.components.online.feature_rows import FeatureRows, RowOptions, ServedRows, Step
from karen_learner.errors import ModelError

STATE_FILE = Path("state") / "weights"
"""The learning state, relative to the folder of a pipe."""
_SERVED, _LEARNING = b"S", b"L"
_DECISIVE_ROWS = 64
"""With this number of uniformly distributed buckets, the highest one determines the table size."""
_WITHOUT_STATE = (
    "Otherwise restore the file; or delete it and load the model: training continues from the served weights"
)


class WeightForm(Protocol):
    """Weights of features and some others. `from_arrays` reads `arrays` and raises ValueError for damage."""

    @property
    def labels(self) -> int: ...
    def arrays(self) -> Arrays: ...


class ServedForm(WeightForm, Protocol):
    """Eight-bit weights. `digest` identifies them."""

    @property
    def rows(self) -> ServedRows: ...
    def digest(self) -> str: ...
    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self: ...


ServedT = TypeVar("ServedT", bound=ServedForm)


class LearningForm(WeightForm, Protocol[ServedT]):
    """Weights with the optimizer state. `from_served` starts from served weights."""

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
PendingT = TypeVar("PendingT")
ShimT = TypeVar("ShimT", bound=Shim)


@dataclass(frozen=True)
class SavedState:
    """Learning state of a loaded model, in memory or in a file."""

    source: bytes | Path

    @property
    def location(self) -> str:
        return str(self.source) if isinstance(self.source, Path) else "in memory"

    def read(self) -> bytes:
        """The state. Raises ModelError if the file cannot be read."""
        if isinstance(self.source, bytes):
            return self.source
        try:
            return self.source.read_bytes()
        except OSError as error:
            raise ModelError(
                f"the learning state {self.source} existed when the model was loaded, and cannot be read now "
                f"({error.strerror}). Load the model again from its present folder"
            ) from error


class LearningShim(Shim, Generic[LearningT, ServedT, PendingT]):
    """Weights, and the gradients pending until `finish_update`. Subclasses name their `architecture`."""

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
        self._state: SavedState | None = None
        self._pending: list[PendingT] = []

    @property
    def labels(self) -> int:
        """Number of labels."""
        return self._weights.labels

    @property
    def rows(self) -> int:
        """Number of features with weights."""
        return len(self._weights.rows.table) - 1

    @property
    def is_learning(self) -> bool:
        """Whether the learning state is in memory. A model loaded for serving leaves it on the disk."""
        return self._learning is not None

    @property
    def learn_rate(self) -> float:
        """The configured learn rate times `learn_rate_scale`."""
        return self._learn_rate * self.learn_rate_scale

    def _step(self, steps: Sequence[Step]) -> None:
        """One optimizer step with the sum of these gradients."""
        if steps:
            self.learning_weights().step(_summed(steps), learn_rate=self.learn_rate)

    def discard_gradients(self) -> None:
        """Remove the pending gradients."""
        self._pending = []

    def all_finite(self) -> bool:
        """Whether no weight in training is NaN or infinite."""
        return self._learning is None or self._learning.all_finite()

    def reset(self, labels: int) -> None:
        """Replace the weights by new ones for this number of labels."""
        self._learning, self._served = self._learning_form.new(self._options, labels), None
        self._state, self._pending = None, []

    def prepare_to_learn(self) -> None:
        """Load the learning state. Raises ModelError like `learning_weights`."""
        self.learning_weights()

    def learning_weights(self) -> LearningT:
        """The weights in the training form. The first call after loading reads the state.

        Raises ModelError if the state belongs to other weights.
        """
        if self._learning is None:
            self._learning = self._load_state()
            self._served = self._state = None
        return self._learning

    def served_weights(self) -> ServedT:
        """The weights in the serving form."""
        if self._served is not None:
            return self._served
        served: ServedT = self.learning_weights().served()
        return served

    def _load_state(self) -> LearningT:
        state = self._checked_state()
        if state is None:
            return self._learning_form.from_served(self._options, self.served_weights())
        data, location = state
        try:
            return self._learning_form.from_arrays(self._options, unpack(data))
        except ValueError as error:
            raise ModelError(
                f"the learning state {location} is damaged: {error}. {_WITHOUT_STATE}"
            ) from error

    def _checked_state(self) -> tuple[bytes, str] | None:
        """The state of the served weights and its location; None without a state."""
        if self._state is None:
            return None
        data, location = self._state.read(), self._state.location
        digest = self._digest()
        if data[: len(digest)] != digest:
            raise ModelError(
                f"the learning state {location} belongs to other weights than the loaded ones. If the folder "
                f"was overwritten, load the model again before training. {_WITHOUT_STATE}"
            )
        return data[len(digest) :], location

    def _digest(self) -> bytes:
        return self.served_weights().digest().encode("ascii")

    @contextmanager
    def serving_form(self) -> Iterator[None]:
        """Within the block, `to_bytes` returns only the served weights."""
        self._exported = self.served_weights()
        try:
            yield
        finally:
            self._exported = None

    def served_bytes(self) -> bytes:
        """The served weights. `from_bytes` reads them."""
        return _SERVED + self._pack((self._exported or self.served_weights()).arrays())

    def state_bytes(self) -> bytes | None:
        """The learning state of `served_bytes`; None without a state."""
        if self._learning is None:
            state = self._checked_state()
            return None if state is None else self._digest() + state[0]
        served = self._exported or self._learning.served()
        return served.digest().encode("ascii") + pack(self._learning.arrays())

    def attach_state(self, state: SavedState | None) -> None:
        """Set the learning state of the served weights."""
        self._state = state

    def _copy_weights_to(self, other: Self) -> Self:
        """Copy the weights and their state into a new shim."""
        other.from_bytes(self.to_bytes())
        other.attach_state(self._state)
        return other

    @contextmanager
    def isolated_gradients(self) -> Iterator[None]:
        """Discard the gradients of the block. Gradients that were pending before stay pending."""
        pending, self._pending = self._pending, []
        try:
            yield
        finally:
            self._pending = pending

    def to_bytes(self) -> bytes:
        """The weights: in the training form if it is in memory, otherwise in the serving form."""
        if self._learning is None or self._exported is not None:
            return self.served_bytes()
        return _LEARNING + self._pack(self._learning.arrays())

    def from_bytes(self, data: bytes) -> Self:
        """Restore the weights of `to_bytes` or `served_bytes`.

        Raises ValueError for other bytes, ModelError for weights of another `table_bits`.
        """
        arrays = unpack(data[1:])
        saved = _saved_bits(arrays)
        if saved not in (None, self._options.bits):
            raise ModelError(
                f"the weights of {self.architecture} were saved with table_bits = {saved}, the config has "
                f"table_bits = {self._options.bits}. Set it to {saved} there, or train the model again"
            )
        self._restore(data[:1], arrays)
        return self

    def _pack(self, arrays: Arrays) -> bytes:
        return pack({**arrays, "table_bits": np.array([self._options.bits])})

    def _restore(self, form: bytes, arrays: Arrays) -> None:
        """The inverse of `_pack`."""
        if form == _LEARNING:
            self._learning, self._served = self._learning_form.from_arrays(self._options, arrays), None
        elif form == _SERVED:
            self._learning, self._served = None, self._served_form.from_arrays(self._options.bits, arrays)
        else:
            raise ValueError(f"the data are not the weights of {self.architecture}")
        self._state, self._pending = None, []

    @property
    def _weights(self) -> LearningT | ServedT:
        return self._learning if self._learning is not None else self.served_weights()


class OptimizerStateMixin(TrainablePipe):  # type: ignore[misc]
    """Saves and loads the served weights and the learning state separately.

    A pipe with a model of another package has no learning state.
    """

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """The pipe, with the learning state unless `exclude` contains "state"."""
        with self._serving_form() as state:
            data: bytes = super().to_bytes(exclude=exclude)
        return with_length(data) + (b"" if "state" in exclude else state)

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> Self:
        """Restore the pipe of `to_bytes`."""
        data, state = split_length(bytes_data)
        super().from_bytes(data, exclude=exclude)
        self._require_same_labels("these bytes")
        if state and "state" not in exclude:
            self._attach(SavedState(state))
        return self

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Write the pipe. `state/` receives the learning state unless `exclude` contains "state"."""
        file = Path(path) / STATE_FILE
        with self._serving_form() as state:
            self._remove_old_state(file, state)
            super().to_disk(path, exclude=exclude)
        if state and "state" not in exclude:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(state)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> Self:
        """Read the pipe. The learning state stays on the disk until the first update.

        Raises ModelError if weights and label names are of different models.
        """
        super().from_disk(path, exclude=exclude)
        self._require_same_labels(str(path))
        if "state" not in exclude:
            file = Path(path).absolute() / STATE_FILE
            self._attach(SavedState(file) if file.is_file() else None)
        return self

    def _remove_old_state(self, file: Path, state: bytes) -> None:
        """Remove the state file of other weights. An unread state of this pipe moves into memory."""
        if not file.is_file():
            return
        shim = self._learning_shim()
        if shim is not None and not shim.is_learning:
            shim.attach_state(SavedState(state))
        file.unlink()

    def _require_same_labels(self, source: str) -> None:
        shim, named = self._learning_shim(), len(self.cfg["labels"])
        if shim is not None and shim.labels not in (0, named):
            raise ModelError(
                f"{source}: the weights of the pipe {self.name!r} have {shim.labels} labels, its cfg has "
                f"{named}. The files are of different models: restore the folder as it was saved"
            )

    def _attach(self, state: SavedState | None) -> None:
        shim = self._learning_shim()
        if shim is not None:
            shim.attach_state(state)

    @contextmanager
    def _serving_form(self) -> Iterator[bytes]:
        """The learning state. Within the block, the model saves only the served weights."""
        shim = self._learning_shim()
        if shim is None:
            yield b""
            return
        with shim.serving_form():
            yield shim.state_bytes() or b""

    def _learning_shim(self) -> LearningShim[Any, Any, Any] | None:
        return find_shim(self.model, LearningShim)


def find_shim(model: Model[Any, Any], shim_type: type[ShimT]) -> ShimT | None:
    """The first shim of this type in the model, or None."""
    found = (shim for node in model.walk() for shim in node.shims if isinstance(shim, shim_type))
    return next(found, None)


def _saved_bits(arrays: Arrays) -> int | None:
    """`table_bits` of saved weights; None if unknown. Earlier versions did not save it."""
    if "table_bits" in arrays:
        return int(arrays["table_bits"].sum())
    buckets = arrays.get("buckets", np.zeros(0))
    return int(buckets.max()).bit_length() if len(buckets) >= _DECISIVE_ROWS else None


def _summed(steps: Sequence[Step]) -> Step:
    """The sum of several gradients."""
    if len(steps) == 1:
        return steps[0]
    buckets = np.unique(np.concatenate([step.buckets for step in steps]))
    columns = np.unique(np.concatenate([step.columns for step in steps]))
    total = np.zeros((len(buckets), len(columns)), dtype=np.float32)
    for step in steps:
        places = np.searchsorted(buckets, step.buckets), np.searchsorted(columns, step.columns)
        total[np.ix_(*places)] += step.gradient
    return Step(buckets, columns, total, np.sum([step.other for step in steps], axis=0))
