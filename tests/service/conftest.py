"""Fixtures: the application of a home with one version, and a client without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from karen_learner.records.access import Role
from karen_learner.service import create_app
from karen_learner.service.access import new_key
from tests.conftest import MakeLearner

BASE_URL = "http://127.0.0.1:8000"

MakeClient = Callable[..., Awaitable[httpx.AsyncClient]]


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[FastAPI]:
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def app(make_learner: MakeLearner) -> AsyncIterator[FastAPI]:
    """The started application of the tenant `acme`."""
    async with running(create_app(make_learner())) as started:
        yield started


@pytest.fixture
async def make_client(app: FastAPI) -> AsyncIterator[MakeClient]:
    """Creates clients with the address and headers of a caller. With a role, its new key is sent."""
    async with AsyncExitStack() as closing:

        async def make(
            role: Role | None = None,
            tenants: tuple[str, ...] = (),
            *,
            address: str = "127.0.0.1",
            **more: Any,
        ) -> httpx.AsyncClient:
            headers = dict(more.pop("headers", {}))
            if role is not None:
                key, secret = new_key("test", role, tenants)
                await app.state.parts.access_store.add_api_key(key)
                app.state.parts.access._read_at = float("-inf")
                headers["Authorization"] = f"Bearer {secret}"
            transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1))
            client = httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=headers, **more)
            return await closing.enter_async_context(client)

        yield make


@pytest.fixture
async def client(make_client: MakeClient) -> httpx.AsyncClient:
    """A client of this machine, without a key."""
    return await make_client()


@pytest.fixture
def home(taught_home: Path) -> Path:
    return taught_home


@pytest.fixture
def store_kind() -> str:
    """SQLite: the tests of the store use PostgreSQL too."""
    return "file"
