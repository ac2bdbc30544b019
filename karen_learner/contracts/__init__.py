"""Protocols that a host may implement or a later package may replace.

Each Protocol has a contract suite in `tests/contracts/` (the store in `tests/memory/`, the base
pipeline in `tests/analysis/`); every implementation passes it.
"""

from karen_learner.contracts.memory_store import MemoryStore
from karen_learner.contracts.parts import (
    Analyzer,
    BasePipelineInfo,
    BasePipelineSource,
    Clock,
    CollectingLearner,
    EventPublisher,
    EvidenceT,
    Gate,
    HostMemory,
    OnProgress,
    Sanitizer,
    TrainingBackend,
)
from karen_learner.contracts.stores import (
    AccessStore,
    InboxStore,
    IncidentStore,
    OutboxStore,
    OutcomeStore,
    ReviewStore,
    StrategyStore,
)

__all__ = [
    "AccessStore",
    "Analyzer",
    "BasePipelineInfo",
    "BasePipelineSource",
    "Clock",
    "CollectingLearner",
    "EventPublisher",
    "EvidenceT",
    "Gate",
    "HostMemory",
    "InboxStore",
    "IncidentStore",
    "MemoryStore",
    "OnProgress",
    "OutboxStore",
    "OutcomeStore",
    "ReviewStore",
    "Sanitizer",
    "StrategyStore",
    "TrainingBackend",
]
