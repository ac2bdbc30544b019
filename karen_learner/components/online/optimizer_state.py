"""Pipes that save their optimizer state in a separate file and load it when training starts."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spacy.pipeline import TrainablePipe
from typing_extensions import Self

from karen_learner.components.online.shim import LearningShim, SavedState, find_shim
from karen_learner.errors import ModelError

STATE_FILE = Path("state") / "weights"
"""The learning state, relative to the folder of the pipe."""
_LENGTH_BYTES = 8


class OptimizerStateMixin(TrainablePipe):  # type: ignore[misc]
    """Saves and loads the served weights and the learning state separately.

    A pipe with a model of another package has no learning state.
    """

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """The pipe, with the learning state unless `exclude` contains "state"."""
        with self._serving_form() as state:
            data: bytes = super().to_bytes(exclude=exclude)
        return len(data).to_bytes(_LENGTH_BYTES, "little") + data + (b"" if "state" in exclude else state)

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> Self:
        """Restore the pipe of `to_bytes`."""
        end = _LENGTH_BYTES + int.from_bytes(bytes_data[:_LENGTH_BYTES], "little")
        super().from_bytes(bytes_data[_LENGTH_BYTES:end], exclude=exclude)
        self._require_same_labels("these bytes")
        if bytes_data[end:] and "state" not in exclude:
            self._attach(SavedState(bytes_data[end:]))
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
