"""The parts up to deployment on a taught home. Candidates are copies of its champion."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from karen_learner.analysis import SpacyAnalyzer, create_spacy_analyzer
from karen_learner.contracts import MemoryStore
from karen_learner.curation import Curated
from karen_learner.curation.folds import FoldPlan, JudgedTexts
from karen_learner.deployment import ChampionSync, Deployer, Rollback
from karen_learner.events import Event, EventBus
from karen_learner.memory import open_store
from karen_learner.models.files import HomeLayout
from karen_learner.models.versions import ModelRegistry, read_manifest
from karen_learner.records import Analysis, CycleContext, ModelVersion, Task, Verdict
from karen_learner.records.training import PipelineSpec, Predicted, PredictReport
from karen_learner.settings import Settings, load_settings
from karen_learner.training.shadows import JudgedText, read_index, shadow_folder
from karen_learner.training.stage import FormerShadows, Trained
from karen_learner.validation import score
from karen_learner.validation.stage import Validated

ACME = "acme"


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Site:
    """One process's view of a home."""

    store: MemoryStore
    registry: ModelRegistry
    champions: ChampionSync
    deployer: Deployer
    rollback: Rollback
    events: EventBus
    analyzer: SpacyAnalyzer
    layout: HomeLayout
    settings: Settings
    clock: Clock
    received: list[Event] = field(default_factory=list)
    masks: dict[str, int] = field(default_factory=dict)
    """Masks of the next candidate."""
    best: tuple[Task, ...] = ()
    """Tasks on which the next candidate is the best version."""

    async def published(self) -> list[Event]:
        """All events so far."""
        await self.events.drain()
        return self.received

    async def champion(self) -> ModelVersion:
        found = await self.registry.champion(ACME)
        assert found is not None
        return found

    async def analyze(self, text: str = "a flight to blue please") -> Analysis:
        """A request of a user."""
        await self.champions.ensure(ACME)
        return await self.analyzer.analyze(text, tenant_id=ACME)

    async def candidate(self) -> Validated:
        """An accepted candidate: a copy of the champion that differs in its description."""
        champion = await self.champion()
        cycle = CycleContext(tenant_id=ACME, mode="full", token=0, champion=champion)
        folder = self.layout.staging(ACME, cycle.cycle_id)
        shutil.copytree(champion.path, folder)
        meta = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps({**meta, "description": cycle.cycle_id}))
        tasks = read_manifest(champion.path).tasks
        spec = PipelineSpec(path=str(folder), tasks=tasks, template=folder / "config.cfg")
        shadows = self.layout.shadow_staging(ACME, cycle.cycle_id)
        shutil.copytree(self.layout.shadows(ACME, champion.version), shadows)
        index = read_index(shadows)
        assert index is not None
        trained = Trained(
            cycle=cycle, curated=Curated(), base=spec, candidate=spec,
            shadows=tuple(
                spec.model_copy(update={"path": str(shadow_folder(shadows, number)), "tasks": tasks})
                for number, tasks in enumerate(index.tasks)
            ),
            former=FormerShadows(),
            folds=FoldPlan(
                folds=index.folds, shadows=len(index.tasks), held_out={}, masks=dict(self.masks),
                judged=JudgedTexts(),
            ),
            predicted=PredictReport(predicted=()), former_predicted=None, recent=(), corpus=folder,
            trained_tasks=frozenset(),
            replayed=(), skipped_examples=0,
        )  # fmt: skip
        validation = score([], [], thresholds=self.settings.thresholds).result
        return Validated(
            trained=trained,
            verdict=Verdict(accepted=True, harmful=False, improved=(), checks=()),
            validation=validation.model_copy(update={"accuracy": 0.5}),
            baseline=None,
            judged=(JudgedText(example_id="e", predicted=Predicted(row=("travel", None, None))),),
            best=self.best,
        )

    async def promote(self, candidate: Validated | None = None) -> ModelVersion:
        """Under the lease, as a cycle does it."""
        chosen = candidate or await self.candidate()
        lease = await self.store.acquire_lease(ACME, "host/1/test", ttl=timedelta(seconds=60))
        assert lease is not None
        try:
            return await self.promote_as(chosen, token=lease.token)
        finally:
            await self.store.release_lease(lease)

    async def promote_as(self, candidate: Validated, *, token: int) -> ModelVersion:
        """Promote with any fencing token."""
        cycle = candidate.cycle.model_copy(update={"token": token})
        candidate = replace(candidate, trained=replace(candidate.trained, cycle=cycle))
        async with self.deployer.loading(candidate.trained.candidate) as loading:
            return (await self.deployer.deploy(candidate, await loading)).version


def folder_of(candidate: Validated) -> Path:
    """The staging folder of a candidate."""
    return Path(candidate.trained.candidate.path or "")


@pytest.fixture
def store_kind() -> str:
    """The tests of this folder open the database of a home themselves."""
    return "file"


@asynccontextmanager
async def open_site(home: Path) -> AsyncIterator[Site]:
    settings = load_settings(environment={})
    layout, clock, events = HomeLayout(home, settings.paths), Clock(), EventBus()
    analyzer = create_spacy_analyzer(settings=settings)
    async with open_store(layout.database, settings.store) as store, analyzer:
        registry = ModelRegistry(store, layout)
        champions = ChampionSync(
            store, registry, analyzer.models, settings.serving, analyzer=analyzer, clock=clock
        )
        deployer = Deployer(store, registry, champions, layout, settings, events=events)
        rollback = Rollback(store, registry, champions, events=events)
        site = Site(store, registry, champions, deployer, rollback, events, analyzer, layout, settings, clock)
        events.subscribe(site.received.append)
        yield site
        await champions.close()


@pytest.fixture
async def site(taught_home: Path) -> AsyncIterator[Site]:
    async with open_site(taught_home) as opened:
        yield opened


@pytest.fixture
async def other_site(taught_home: Path) -> AsyncIterator[Site]:
    """Another process's view of the same home."""
    async with open_site(taught_home) as opened:
        yield opened
