"""A bounded memory of what was used last."""

from __future__ import annotations

from collections.abc import Hashable, ItemsView
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The values that were put last, by their keys; at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[K, V] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def items(self) -> ItemsView[K, V]:
        """Keys and values, the oldest first."""
        return self._values.items()

    def get(self, key: K) -> V | None:
        """The value of a key; None if it is not known, or not any more."""
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Remember a value as the latest, and forget the oldest if there are too many."""
        self._values.pop(key, None)
        self._values[key] = value
        if len(self._values) > self._limit:
            del self._values[next(iter(self._values))]

    def drop(self, key: K) -> None:
        """Forget a key, if it is known."""
        self._values.pop(key, None)
