"""Homes that a session creates once and each test copies."""

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
"""Environment variable with the URL of the store, for learners of all processes."""


@dataclass(frozen=True)
class TrainedHome:
    """A home with a model. `url`: its database on a server, or "" for the database in the home."""

    home: Path
    url: str

    @asynccontextmanager
    async def copied(self, to: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
        """A copy for one test. `KAREN_STORE__URL` names its store."""
        async with a_store("postgresql" if self.url else "file", monkeypatch, like=self.url):
            yield Path(shutil.copytree(self.home, to))


@asynccontextmanager
async def a_store(kind: str, monkeypatch: pytest.MonkeyPatch, *, like: str = "") -> AsyncIterator[None]:
    """Learners of the block use a store of this kind."""
    if kind == "file":
        yield
        return
    async with a_database(kind, like=like) as url:
        monkeypatch.setenv(STORE, str(url))
        yield


class Homes:
    """Homes of a test session."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._made: dict[tuple[str, str], TrainedHome] = {}

    def trained(self, name: str, kind: str, teach: Callable[[Path], Awaitable[None]]) -> TrainedHome:
        """The home of this name, created at its first use."""
        if (name, kind) not in self._made:
            self._made[name, kind] = asyncio.run(self._make(name, kind, teach))
        return self._made[name, kind]

    async def _make(self, name: str, kind: str, teach: Callable[[Path], Awaitable[None]]) -> TrainedHome:
        made = TrainedHome(
            self._folders.mktemp(name) / "home", await make_on_server() if kind == "postgresql" else ""
        )
        with pytest.MonkeyPatch.context() as patch:
            if made.url:
                patch.setenv(STORE, made.url)
            await teach(made.home)
        return made

    def drop(self) -> None:
        """Drop the databases on the server."""
        for made in self._made.values():
            if made.url:
                asyncio.run(drop_from_server(made.url))
