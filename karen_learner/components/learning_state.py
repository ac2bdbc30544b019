"""Where the learning state of a loaded model can be had once it is needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class LearningState(Protocol):
    """Something that the state can be read from, later."""

    def read(self) -> bytes | None:
        """The state; None if there is none any more."""


@dataclass(frozen=True)
class StoredState:
    """A state that is at hand."""

    data: bytes

    def read(self) -> bytes | None:
        return self.data


@dataclass(frozen=True)
class StateFile:
    """A state that stays on the disk until it is needed."""

    path: Path

    def read(self) -> bytes | None:
        return self.path.read_bytes() if self.path.is_file() else None
