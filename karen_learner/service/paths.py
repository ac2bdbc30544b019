"""Paths of requests and of results.

An id in a path may have an encoded slash: `/v1/tenants/a%2Fb` is the tenant `a/b`. Servers decode a path
before it is matched. So `EncodedSlashes` hides such slashes from the matching, and `reveal_slashes` gives
them back. Results show files relative to the home, not where it is on the server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from karen_learner.records import Record

T = TypeVar("T")

HIDDEN_SLASH = "\x00"
"""No id contains it."""


class EncodedSlashes:
    """Keeps encoded slashes of a path out of its matching."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw: bytes = scope.get("raw_path") or b""
        if b"%2f" in raw.lower():
            parts = [unquote(part) for part in raw.decode("latin-1").split("/")]
            scope["path"] = "/".join(part.replace("/", HIDDEN_SLASH) for part in parts)
        await self._app(scope, receive, send)


def reveal_slashes(scope: Scope) -> None:
    """Give the parameters of a matched path their slashes back."""
    found = scope.get("path_params", {})
    scope["path_params"] = {
        name: value.replace(HIDDEN_SLASH, "/") if isinstance(value, str) else value
        for name, value in found.items()
    }


def relative_to_home(value: T, home: Path) -> T:
    """A record, or several, with the paths of files relative to the home. Others have their names alone."""
    found: T = _relative(value, home)
    return found


def _relative(value: Any, home: Path) -> Any:
    if isinstance(value, Path):
        return value.relative_to(home) if value.is_relative_to(home) else Path(value.name)
    if isinstance(value, Record):
        shown = {name: _relative(one, home) for name, one in value}
        changed = {name: one for name, one in shown.items() if one is not getattr(value, name)}
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, (list, tuple)):
        shown_items = [_relative(one, home) for one in value]
        same = all(new is old for new, old in zip(shown_items, value, strict=True))
        return value if same else type(value)(shown_items)
    return value
