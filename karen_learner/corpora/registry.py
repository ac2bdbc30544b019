"""Functions by the name of a format: our own, those that a program registers, and those of packages."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from karen_learner.errors import ImportFormatError

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class FormatRegistry(Generic[FunctionT]):
    """Importers or exporters by name.

    `ours` are loaded at their first use and take precedence over entry points of `group`. `kind` is the word
    for a function in messages.
    """

    def __init__(self, kind: str, group: str, ours: Mapping[str, str]) -> None:
        self._kind = kind
        self._group = group
        self._ours = {name: EntryPoint(name, value, group) for name, value in ours.items()}
        self._registered: dict[str, FunctionT] = {}

    def register(self, name: str) -> Callable[[FunctionT], FunctionT]:
        """Decorator of the function for a format. Raises ValueError for a name that is taken."""
        plain = name.removeprefix(".")
        if not plain or plain != plain.lower():
            raise ValueError(f"the name of a format is lower case, like a suffix, unlike {name!r}")

        def registered(function: FunctionT) -> FunctionT:
            if plain in self._ours or plain in self._registered:
                raise ValueError(f"there is an {self._kind} for {plain!r} already")
            self._registered[plain] = function
            return function

        return registered

    def is_ours(self, name: str) -> bool:
        """Whether the format is read or written by this library."""
        return name in self._ours

    def names(self) -> tuple[str, ...]:
        """The names of all formats, sorted."""
        return tuple(sorted({*self._ours, *self._registered, *self._offered()}))

    def __contains__(self, name: str) -> bool:
        return name in self._ours or name in self._registered or name in self._offered()

    def load(self, name: str) -> FunctionT:
        """The function of a format. Raises ImportFormatError if there is none, or if it cannot be loaded."""
        if name in self._registered:
            return self._registered[name]
        entry = self._ours.get(name) or self._offered().get(name)
        if entry is None:
            near = difflib.get_close_matches(name, self.names(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(self.names())}"
            raise ImportFormatError(f"there is no {self._kind} for the format {name!r}: {hint}")
        try:
            function: FunctionT = entry.load()
        except Exception as error:
            raise ImportFormatError(
                f"the {self._kind} {entry.value!r} for {name!r} cannot be used: {error}"
            ) from error
        return function

    def _offered(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self._group)}
