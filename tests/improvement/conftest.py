"""Stores with turns of two weeks, at a fixed time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from karen_learner.improvement import AIAnalysisEngine, AnalysisConfig
from karen_learner.memory import SqlMemoryStore, open_store
from karen_learner.models.files import HomeLayout
from karen_learner.records import Turn, UserFeedback
from karen_learner.settings import StoreSettings, load_settings
from tests.databases import SHARED, a_database
from tests.memory.memory_specimens import NOON, make_turn

ACME = "acme"
Engine = Callable[..., AIAnalysisEngine]


class StoreOwner:
    """The part of a learner that an engine uses."""

    def __init__(self, store: SqlMemoryStore) -> None:
        self.store = store
        self.settings = load_settings(environment={})
        self.layout = HomeLayout(Path("unused"), self.settings.paths)

    async def start(self) -> None:
        await self.store.start()


@pytest.fixture
def store_settings() -> StoreSettings:
    return load_settings(environment={}).store


@pytest.fixture(params=SHARED)
async def store(
    request: pytest.FixtureRequest, migrated: str, tmp_path: Path, store_settings: StoreSettings
) -> AsyncIterator[SqlMemoryStore]:
    async with (
        a_database(request.param, tmp_path, like=migrated) as place,
        open_store(place, store_settings, clock=lambda: NOON) as opened,
    ):
        yield opened


@pytest.fixture
def engine(store: SqlMemoryStore) -> Engine:
    """Makes engines on the store, whose time is NOON."""

    def make(tenant: str = ACME, **config: object) -> AIAnalysisEngine:
        found = AnalysisConfig(tenant_id=tenant, **config)  # type: ignore[arg-type]
        return AIAnalysisEngine(found, learner=StoreOwner(store), clock=lambda: NOON)

    return make


def judged_turns(
    accuracy: float, *, days_ago: float, users: int = 60, each: int = 5, seed: int = 0
) -> list[Turn]:
    """Turns whose intents people corrected or confirmed, with this share of right answers."""
    random, made = np.random.default_rng(seed), []
    for number in range(users * each):
        right = random.random() < accuracy
        feedback = UserFeedback(corrected_intent="billing" if right else "travel")
        at = NOON - timedelta(days=days_ago, minutes=number)
        name = f"t{days_ago}-{number}"
        made.append(make_turn(name, feedback=feedback, user_id=f"u{number % users}", occurred_at=at))
    return made
