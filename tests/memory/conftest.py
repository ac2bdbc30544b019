"""Stores to run the contract on, each with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from karen_learner.memory import SqlMemoryStore, open_store
from karen_learner.settings import StoreSettings, load_settings
from tests.databases import SHARED, a_database
from tests.memory.memory_specimens import MovableClock


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def store_settings() -> StoreSettings:
    """Small pages, so that every test reads several."""
    return load_settings(overrides={"store.page_size": 3}, environment={}).store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "karen.db"


@pytest.fixture(params=["memory", *SHARED])
async def store(
    request: pytest.FixtureRequest,
    migrated: str,
    tmp_path: Path,
    store_settings: StoreSettings,
    clock: MovableClock,
) -> AsyncIterator[SqlMemoryStore]:
    async with (
        a_database(request.param, tmp_path, like=migrated) as place,
        open_store(place, store_settings, clock=clock) as opened,
    ):
        yield opened
