"""The rooms of one home, put together. No behaviour of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from karen_learner.collection import ConversationMetadataCollector
from karen_learner.contracts import Analyzer, MemoryStore
from karen_learner.corpora.transfer import Transfer
from karen_learner.curation import Curator
from karen_learner.cycle import LearningCycle, Rooms
from karen_learner.deployment import Deployer, Serving
from karen_learner.events import EventBus
from karen_learner.models.layout import HomeLayout
from karen_learner.models.live import LiveModels
from karen_learner.models.registry import ModelRegistry
from karen_learner.monitoring.status import Overview
from karen_learner.pipeline import IncrementalTrainingPipeline
from karen_learner.settings import Settings
from karen_learner.training import BasePipeline, LocalWorker
from karen_learner.validation import ModelValidator


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the rooms stand on."""

    settings: Settings
    layout: HomeLayout
    store: MemoryStore
    models: LiveModels
    analyzer: Analyzer
    events: EventBus


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """What a learner delegates to."""

    registry: ModelRegistry
    worker: LocalWorker
    serving: Serving
    collector: ConversationMetadataCollector
    curator: Curator
    transfer: Transfer
    overview: Overview
    cycle: LearningCycle
    pipeline: IncrementalTrainingPipeline


def assemble(ground: Ground, *, start: Callable[[], Awaitable[None]]) -> Assembly:
    """Nothing is opened or started. `start` is what the parts with public methods of their own await."""
    settings, store, events = ground.settings, ground.store, ground.events
    language = settings.training.language
    worker = LocalWorker(settings.training)
    registry = ModelRegistry(store, ground.layout)
    serving = Serving(registry, ground.models, analyzer=ground.analyzer, recheck_s=settings.serving.refresh_s)
    curator = Curator(store, settings, language=language)
    collector = ConversationMetadataCollector(store, ground.analyzer, settings, events=events)
    deployer = Deployer(store, registry, serving, ground.layout, settings, events=events)
    cycle = LearningCycle(
        Rooms(
            store=store,
            registry=registry,
            curator=curator,
            worker=worker,
            validator=ModelValidator(settings),
            deployer=deployer,
            layout=ground.layout,
            settings=settings,
            events=events,
            base=BasePipeline(ground.analyzer, ground.layout, settings.training).spec,
        )
    )
    return Assembly(
        registry=registry,
        worker=worker,
        serving=serving,
        collector=collector,
        curator=curator,
        transfer=Transfer(
            store, add_turn=collector.collect_input, add_gold=curator.add_gold, language=language
        ),
        overview=Overview(store, registry, settings),
        cycle=cycle,
        pipeline=IncrementalTrainingPipeline(cycle, deployer, store, registry, worker, start=start),
    )
