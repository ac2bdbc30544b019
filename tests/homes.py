"""Homes that are made once a session, and copied for each test: homes may be moved."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.databases import a_database, drop_from_server, make_on_server

STORE = "KAREN_STORE__URL"
"""Learners, and those of other processes, have their store where it says."""


@dataclass(frozen=True)
class TaughtHome:
    """`url`: the database on a server, or nothing where it is in the home."""

    home: Path
    url: str

    @asynccontextmanager
    async def copied(self, to: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
        """A copy that a test may change. Its learners find their store by themselves."""
        async with a_store("postgresql" if self.url else "file", monkeypatch, like=self.url):
            yield Path(shutil.copytree(self.home, to))


@asynccontextmanager
async def a_store(kind: str, monkeypatch: pytest.MonkeyPatch, *, like: str = "") -> AsyncIterator[None]:
    """Learners that are made meanwhile have their store there."""
    if kind == "file":
        yield
        return
    async with a_database(kind, like=like) as url:
        monkeypatch.setenv(STORE, str(url))
        yield


class Homes:
    """The homes of a session."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._made: dict[tuple[str, str], TaughtHome] = {}

    def taught(self, name: str, kind: str, teach: Callable[[Path], Awaitable[None]]) -> TaughtHome:
        """The home of this name, taught if it is not there yet."""
        if (name, kind) not in self._made:
            self._made[name, kind] = asyncio.run(self._make(name, kind, teach))
        return self._made[name, kind]

    async def _make(self, name: str, kind: str, teach: Callable[[Path], Awaitable[None]]) -> TaughtHome:
        made = TaughtHome(
            self._folders.mktemp(name) / "home", await make_on_server() if kind == "postgresql" else ""
        )
        with pytest.MonkeyPatch.context() as patch:
            if made.url:
                patch.setenv(STORE, made.url)
            await teach(made.home)
        return made

    def drop(self) -> None:
        """Drop what is on a server."""
        for made in self._made.values():
            if made.url:
                asyncio.run(drop_from_server(made.url))
