"""The real store in memory, and a curator on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from karen_learner.contracts import MemoryStore
from karen_learner.curation import Curator
from karen_learner.memory import open_store
from karen_learner.settings import Settings, load_settings


@pytest.fixture
def settings() -> Settings:
    return load_settings(overrides={"store.page_size": 7}, environment={})


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[MemoryStore]:
    async with open_store(":memory:", settings.store) as opened:
        yield opened


@pytest.fixture
def curator(store: MemoryStore, settings: Settings) -> Curator:
    return Curator(store, settings)
