from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from karen_learner.contracts import MemoryStore
from karen_learner.memory import open_store
from karen_learner.settings import Settings, load_settings


@pytest.fixture
def settings() -> Settings:
    return load_settings(environment={})


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[MemoryStore]:
    async with open_store(":memory:", settings.store) as opened:
        yield opened
