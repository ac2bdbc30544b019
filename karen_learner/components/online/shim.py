"""Base of models that train their own weights outside thinc's parameters, and of their pipes.

The weights are in a `Shim`, in one of two forms. The serving form is small. The training form is loaded from
a separate state when training starts.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, cast

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


class ServedForm(Protocol):
    """Eight-bit weights of features, and others. `digest` identifies them."""

    @property
    def labels(self) -> int: ...
    @property
    def rows(self) -> ServedRows: ...
    def digest(self) -> str: ...
    def arrays(self) -> Arrays: ...
    @classmethod
    def from_arrays(cls, bits: int, arrays: Arrays) -> Self: ...


ServedT = TypeVar("ServedT", bound=ServedForm)


class LearningForm(Protocol[ServedT]):
    """Weights with the optimizer state. `from_served` starts from served weights."""

    @property
    def labels(self) -> int: ...
    @property
    def rows(self) -> FeatureRows: ...
    def step(self, step: Step, *, learn_rate: float) -> None: ...
    def all_finite(self) -> bool: ...
    def served(self) -> ServedT: ...
    def arrays(self) -> Arrays: ...
    @classmethod
    def new(cls, options: RowOptions, labels: int) -> Self: ...
    @classmethod
    def from_arrays(cls, options: RowOptions, arrays: Arrays) -> Self: ...
    @classmethod
    def from_served(cls, options: RowOptions, served: ServedT) -> Self: ...


LearningT = TypeVar("LearningT", bound=LearningForm[Any])
PendingT = TypeVar("PendingT")
ShimT = TypeVar("ShimT", bound="LearningShim[Any, Any, Any]")
SavedState = bytes | Path
"""Learning state of a loaded model, in memory or in a file."""


class LearningShim(Shim, Generic[LearningT, ServedT, PendingT]):
    """Weights with an optimizer and a learn rate of their own, outside thinc's parameters.

    Gradients are pending until `finish_update`. `learn_rate_scale` is a factor of the configured learn rate.
    `state` is the learning state of loaded weights until the first update. Subclasses name their
    `architecture`.
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
        self.state: SavedState | None = None
        self._pending: list[PendingT] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A shim with a copy of the weights. It shares their saved state, and tables that do not change."""
        copied = copy.copy(self)
        copied.learn_rate_scale, copied._exported = 1.0, None
        copied.from_bytes(self.to_bytes())
        copied.state = self.state
        return copied

    @property
    def labels(self) -> int:
        """Number of labels."""
        return self._weights.labels

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
        self.state, self._pending = None, []

    def learning_weights(self) -> LearningT:
        """The weights in the training form. The first call after loading reads the state.

        Raises ModelError if the state belongs to other weights.
        """
        if self._learning is None:
            self._learning = self._load_state()
            self._served = self.state = None
        return self._learning

    def served_weights(self) -> ServedT:
        """The weights in the serving form."""
        if self._served is not None:
            return self._served
        return cast(ServedT, self.learning_weights().served())

    def _load_state(self) -> LearningT:
        state = self._checked_state()
        if state is None:
            return self._learning_form.from_served(self._options, self.served_weights())
        try:
            return self._learning_form.from_arrays(self._options, unpack(state))
        except ValueError as error:
            raise ModelError(
                f"the learning state {_location(self.state)} is damaged: {error}. {_WITHOUT_STATE}"
            ) from error

    def _checked_state(self) -> bytes | None:
        """The learning state of the served weights without their digest; None without a state."""
        if self.state is None:
            return None
        data, digest = _read(self.state), self.served_weights().digest().encode("ascii")
        if not data.startswith(digest):
            raise ModelError(
                f"the learning state {_location(self.state)} belongs to other weights than the loaded ones. "
                f"If the folder was overwritten, load the model again before training. {_WITHOUT_STATE}"
            )
        return data[len(digest) :]

    @contextmanager
    def serving_form(self) -> Iterator[bytes]:
        """The learning state, empty without one. Within the block, `to_bytes` returns the served weights."""
        self._exported = served = self.served_weights()
        try:
            state = self._checked_state() if self._learning is None else pack(self._learning.arrays())
            yield b"" if state is None else served.digest().encode("ascii") + state
        finally:
            self._exported = None

    def to_bytes(self) -> bytes:
        """The weights: in the training form if it is in memory, otherwise in the serving form."""
        if self._learning is None or self._exported is not None:
            return _SERVED + self._pack((self._exported or self.served_weights()).arrays())
        return _LEARNING + self._pack(self._learning.arrays())

    def from_bytes(self, data: bytes) -> Self:
        """Restore the weights of `to_bytes`.

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
        self.state, self._pending = None, []

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
        self._free_dimension()
        super().from_bytes(data, exclude=exclude)
        self._require_same_labels("these bytes")
        if state and "state" not in exclude:
            self._attach(state)
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
        self._free_dimension()
        super().from_disk(path, exclude=exclude)
        self._require_same_labels(str(path))
        if "state" not in exclude:
            file = Path(path).absolute() / STATE_FILE
            self._attach(file if file.is_file() else None)
        return self

    def _remove_old_state(self, file: Path, state: bytes) -> None:
        """Remove the state file of other weights. An unread state of this pipe moves into memory."""
        if not file.is_file():
            return
        shim = self._learning_shim()
        if shim is not None and not shim.is_learning:
            shim.state = state
        file.unlink()

    def _free_dimension(self) -> None:
        """Allow another number of labels: thinc refuses to load a model over one of another dimension."""
        unknown: Any = None
        if self._learning_shim() is not None and self.model.has_dim("nO"):
            self.model.set_dim("nO", unknown, force=True)

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
            shim.state = state

    def _serving_form(self) -> AbstractContextManager[bytes]:
        """The learning state. Within the block, the model saves only the served weights."""
        shim = self._learning_shim()
        return nullcontext(b"") if shim is None else shim.serving_form()

    def _learning_shim(self) -> LearningShim[Any, Any, Any] | None:
        return find_shim(self.model, LearningShim)


def learning_shims(model: Model[Any, Any]) -> Iterator[LearningShim[Any, Any, Any]]:
    """The shims that train their own weights. A stock model has none."""
    return (shim for node in model.walk() for shim in node.shims if isinstance(shim, LearningShim))


def find_shim(model: Model[Any, Any], shim_type: type[ShimT]) -> ShimT | None:
    """The first shim of this type in the model, or None."""
    for shim in model.shims:  # a walk through the layers takes ten times as long
        if isinstance(shim, shim_type):
            return shim
    return next((shim for shim in learning_shims(model) if isinstance(shim, shim_type)), None)


def prepare_to_learn(model: Model[Any, Any]) -> None:
    """Load the learning state of the model now instead of in the first update. A stock model has none."""
    for shim in learning_shims(model):
        shim.learning_weights()


def scale_learn_rate(model: Model[Any, Any], factor: float) -> None:
    """Set the factor of the configured learn rates. It has no effect on a stock model."""
    for shim in learning_shims(model):
        shim.learn_rate_scale = factor


def _location(state: SavedState | None) -> str:
    return str(state) if isinstance(state, Path) else "in memory"


def _read(state: SavedState) -> bytes:
    """The state. Raises ModelError if the file cannot be read."""
    if isinstance(state, bytes):
        return state
    try:
        return state.read_bytes()
    except OSError as error:
        raise ModelError(
            f"the learning state {state} existed when the model was loaded, and cannot be read now "
            f"({error.strerror}). Load the model again from its present folder"
        ) from error


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
