"""Functions by the name of a format: our own, those that a program registers, and those of packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from typing import Any, TypeVar, cast

from karen_learner.errors import ImportFormatError
from karen_learner.registry import Registry

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
RegisteredT = TypeVar("RegisteredT", bound=Callable[..., Any])


class FormatRegistry(Registry[FunctionT]):
    """Importers or exporters by name. `ours` are loaded at their first use."""

    error = ImportFormatError

    def __init__(self, kind: str, group: str, ours: Mapping[str, str]) -> None:
        super().__init__(f"{kind} for the format", group, {})
        self._ours = {name: EntryPoint(name, value, group) for name, value in ours.items()}

    def register(self, name: str) -> Callable[[RegisteredT], RegisteredT]:
        """Decorator of the function for a format, such as `txt`, and for files with this suffix.

        Raises ValueError for a name that is taken.
        """
        plain = name.removeprefix(".")
        if not plain or plain != plain.lower():
            raise ValueError(f"the name of a format is lower case, like a suffix, unlike {name!r}")

        def registered(function: RegisteredT) -> RegisteredT:
            if plain in self._ours or plain in self.own:
                raise ValueError(f"there is an {self._kind} {plain!r} already")
            self.own = {**self.own, plain: cast(FunctionT, function)}
            return function

        return registered

    def is_ours(self, name: str) -> bool:
        """Whether the format is read or written by this library."""
        return name in self._ours

    def names(self) -> tuple[str, ...]:
        """The names of all formats, sorted."""
        return tuple(sorted({*self._ours, *super().names()}))

    def find(self, name: str) -> FunctionT:
        """The function of a format. Raises ImportFormatError."""
        return self.load(self._ours[name]) if name in self._ours else super().find(name)
