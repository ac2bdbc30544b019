"""Named objects, such as gates: those of this package, and those that other packages add by entry points."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from karen_learner.errors import KarenLearnerError, SettingsError

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects by name: `own` ones, and the entry points of `group`, which are read when a name is not own.

    An own name takes precedence over an entry point. Messages contain `kind`, the word for an object, and
    `setting`, which names the objects in use. An object that fails `check` is no `form`.
    """

    error: type[KarenLearnerError] = SettingsError

    def __init__(
        self,
        kind: str,
        group: str,
        own: Mapping[str, T],
        *,
        setting: str | None = None,
        form: str = "function",
        check: Callable[[Any], bool] = callable,
    ) -> None:
        self.group = group
        self.own = own
        self._kind = kind
        self._place = "" if setting is None else f" in the setting {setting}"
        self._form = form
        self._check = check

    def find(self, name: str) -> T:
        """The object of a name. Raises `error` for an unknown, ambiguous or unusable one."""
        if name in self.own:
            return self.own[name]
        offers = self._offers().get(name)
        if offers is None:
            raise self.error(f"unknown {self._kind} {name!r:.80}{self._place}: {self._hint(name)}")
        if len(offers) > 1:
            raise self.error(f"several packages add the {self._kind} {name!r}: {', '.join(sorted(offers))}")
        return self.load(*offers.values())

    def find_all(self, names: Iterable[str] = ()) -> dict[str, T]:
        """The objects of these names, in order; all without a name. Raises as `find`."""
        return {name: self.find(name) for name in tuple(names) or self.names()}

    def names(self) -> tuple[str, ...]:
        """All names, own ones first."""
        return (*self.own, *(name for name in self._offers() if name not in self.own))

    def load(self, entry: EntryPoint) -> T:
        """The object of an entry point. Raises `error`."""
        try:
            found: T = entry.load()
        except Exception as error:
            raise self.error(
                f"the {self._kind} {entry.name!r} ({entry.value}) cannot be used: {error}"
            ) from error
        if not self._check(found):
            raise self.error(f"the {self._kind} {entry.name!r} ({entry.value}) is no {self._form}")
        return found

    def __contains__(self, name: str) -> bool:
        return name in self.own or name in self.names()

    def _hint(self, name: str) -> str:
        known = sorted(self.names())
        near = difflib.get_close_matches(name, known, n=1)
        question = f"did you mean {near[0]!r}? " if near else ""
        return f"{question}known are {', '.join(known)}"

    def _offers(self) -> dict[str, dict[str, EntryPoint]]:
        """The entry points of each name by value: a package may be installed in two places."""
        offers: dict[str, dict[str, EntryPoint]] = {}
        for entry in entry_points(group=self.group):
            offers.setdefault(entry.name, {})[entry.value] = entry
        return offers
