"""Where the state for learning on lies while a model only serves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from karen_learner.errors import ModelError


class LearningState(Protocol):
    """Where the learning state of a loaded model can be had once it is needed."""

    @property
    def where(self) -> str:
        """The place, for messages."""

    def read(self) -> bytes:
        """The state. Raises ModelError if it is gone."""


@dataclass(frozen=True)
class StoredState:
    """A state that is at hand."""

    data: bytes

    @property
    def where(self) -> str:
        return "in memory"

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True)
class StateFile:
    """A state that stays on the disk until it is needed."""

    path: Path

    @property
    def where(self) -> str:
        return str(self.path)

    def read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"the learning state {self.path} was there when the model was loaded, and cannot be read now "
                f"({error.strerror}). Load the model again from where it is"
            ) from error
