"""Tenants with simulated users, whose deployments and changes have a known effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from karen_learner.improvement.tracking import ImprovementTracker
from karen_learner.improvement.tracking.deployments import follow_deployments
from karen_learner.memory import SqlMemoryStore
from karen_learner.models.files import HomeLayout
from karen_learner.records import Holdback, ModelVersion, Promotion, UserFeedback
from karen_learner.settings import Settings, load_settings
from tests.memory.memory_specimens import NOON, MovableClock, make_turn, make_version

ACME = "acme"
DAY = 86_400.0


@dataclass
class World:
    """A learner without models, at a time that the test moves. The window is two days."""

    store: SqlMemoryStore
    layout: HomeLayout
    settings: Settings
    clock: MovableClock = field(default_factory=MovableClock)

    async def start(self) -> None:
        await self.store.start()

    def tracker(self, tenant: str = ACME, place: Path | str | None = None) -> ImprovementTracker:
        return ImprovementTracker(place, learner=self, tenant_id=tenant, clock=self.clock)

    async def follow(self) -> None:
        """The work of the autonomous service."""
        await follow_deployments(self.tracker(), self.store, self.settings.impact, self.clock())

    async def deploy(self, name: str, parent: str | None, *, share: float = 0.0) -> ModelVersion:
        """Make a version the champion now, with a holdback of a share of the users."""
        now = self.clock()
        version = make_version(name, parent=parent, created_at=now)
        held = None
        if share and parent is not None:
            ends_at = now + timedelta(days=2 * self.settings.impact.window_days)
            held = Holdback(version=parent, share=share, started_at=now, ends_at=ends_at)
        promotion = Promotion(version=version, expected=parent, holdback=held)
        assert await self.store.promote(ACME, promotion, token=None)
        return version

    async def live(
        self,
        days: float,
        accuracy: Callable[[str], float],
        *,
        tenant: str = ACME,
        users: int = 60,
        seed: int = 0,
    ) -> None:
        """Turns of the next days: each user is answered four times a day, and says whether it was right."""
        random, start = np.random.default_rng(seed), self.clock()
        turns = []
        for user in range(users):
            for number in range(int(4 * days)):
                at = start + timedelta(days=days) * random.random()
                right = random.random() < accuracy(f"u{user}")
                feedback = UserFeedback(corrected_intent="billing" if right else "travel")
                name = f"{tenant}-{start:%d%H}-{user}-{number}"
                turns.append(
                    make_turn(name, tenant=tenant, user_id=f"u{user}", feedback=feedback, occurred_at=at)
                )
        await asyncio.gather(*(self.store.add_turn(turn) for turn in turns))
        self.clock.move(days * DAY)

    def effect(self, change: float, base: float = 0.6) -> Callable[[str], float]:
        """The accuracy of users with the present deployment, which the held ones do not have."""

        def accuracy(user: str) -> float:
            return base if self.held is not None and self.held.keeps(ACME, user) else base + change

        return accuracy

    held: Holdback | None = None


@pytest.fixture
async def world(store: SqlMemoryStore, tmp_path: Path) -> World:
    settings = load_settings(environment={}, overrides={"impact.window_days": 2, "impact.answer_value": 0.5})
    return World(store, HomeLayout(tmp_path, settings.paths), settings)


__all__ = ["ACME", "DAY", "NOON", "World"]
