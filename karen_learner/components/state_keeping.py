"""A pipe that keeps what only learning needs apart from what serves, and reads it when it first learns."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from spacy.pipeline import TrainablePipe

from karen_learner.components.learning_shim import LearningShim, first_shim
from karen_learner.components.learning_state import LearningState, StateFile, StoredState
from karen_learner.errors import ModelError

STATE_FILE = Path("state") / "weights"
"""Where, in a pipe's folder, the state for learning on lies."""


class KeepsState(TrainablePipe):  # type: ignore[misc]
    """Writes and reads the pipe in its two parts. A pipe whose model is none of ours has but one."""

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """All of the pipe, with the state for learning on unless `exclude` has "state"."""
        with self._serving_form() as state:
            data: bytes = super().to_bytes(exclude=exclude)
        kept = state if "state" not in exclude else b""
        return len(data).to_bytes(8, "little") + data + kept

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> Self:
        """Take over what `to_bytes` has made."""
        end = 8 + int.from_bytes(bytes_data[:8], "little")
        super().from_bytes(bytes_data[8:end], exclude=exclude)
        self._require_one_model("these bytes")
        if bytes_data[end:] and "state" not in exclude:
            self._attach(StoredState(bytes_data[end:]))
        return self

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Write the pipe. What only learning needs goes to `state/`, unless `exclude` has "state"."""
        file = Path(path) / STATE_FILE
        with self._serving_form() as state:
            self._take_away(file, state)
            super().to_disk(path, exclude=exclude)
        if state and "state" not in exclude:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(state)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> Self:
        """Read the pipe. The state for learning on stays on the disk until the first update.

        Raises ModelError if the weights are of another model than the names of the labels.
        """
        super().from_disk(path, exclude=exclude)
        self._require_one_model(str(path))
        if "state" not in exclude:
            file = Path(path).absolute() / STATE_FILE
            self._attach(StateFile(file) if file.is_file() else None)
        return self

    def _take_away(self, file: Path, state: bytes) -> None:
        """A state of other weights must not stay beside these. It may be our own, still to be read."""
        if not file.is_file():
            return
        shim = self._learning_shim()
        if shim is not None and not shim.is_learning:
            shim.attach_state(StoredState(state))
        file.unlink()

    def _require_one_model(self, where: str) -> None:
        """Weights and names of labels must belong together."""
        shim, named = self._learning_shim(), len(self.cfg["labels"])
        if shim is not None and shim.labels not in (0, named):
            raise ModelError(
                f"{where}: the weights of the pipe {self.name!r} know {shim.labels} labels, its cfg names "
                f"{named}. The files are of different models: restore the folder as it was saved"
            )

    def _attach(self, state: LearningState | None) -> None:
        shim = self._learning_shim()
        if shim is not None:
            shim.attach_state(state)

    @contextmanager
    def _serving_form(self) -> Iterator[bytes]:
        """While it lasts, the model is written as it serves. Gives the state for learning on."""
        shim = self._learning_shim()
        if shim is None:
            yield b""
            return
        with shim.serving_form():
            yield shim.state_bytes() or b""

    def _learning_shim(self) -> LearningShim[Any, Any, Any] | None:
        return first_shim(self.model, LearningShim)
