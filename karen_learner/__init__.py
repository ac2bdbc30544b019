"""spaCy language understanding that learns from its own conversations, with a gate against worse models.

Start with `create_autonomous_learner`. All public names are listed here. They are imported at first use,
so that `import karen_learner` does not load spaCy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karen_learner.lazy_imports import import_spacy, lazily

if TYPE_CHECKING:
    from karen_learner.analysis import SpacyAnalyzer, create_spacy_analyzer
    from karen_learner.autonomy.learning_system import AutomatedLearningSystem
    from karen_learner.autonomy.stream import RealTimeModelUpdater, UpdateStrategy
    from karen_learner.collection import ConversationMetadataCollector
    from karen_learner.contracts import Analyzer, HostMemory, MemoryStore
    from karen_learner.corpora.corpus_file import CorpusFile
    from karen_learner.learner import AutonomousLearner, create_autonomous_learner
    from karen_learner.monitoring.performance import PerformanceMonitor, init_performance_monitor
    from karen_learner.pipeline import IncrementalTrainingPipeline
    from karen_learner.records import (
        Analysis,
        ConversationMetadata,
        Entity,
        IngestReport,
        LabelledText,
        LearningCycleResult,
        LearningMetrics,
        LearningPlan,
        ModelVersion,
        TenantStatus,
        UserFeedback,
        ValidationResult,
    )
    from karen_learner.settings import Settings, load_settings
    from karen_learner.validation import ModelValidator

_MODULES = {
    "analysis": "SpacyAnalyzer create_spacy_analyzer",
    "autonomy.learning_system": "AutomatedLearningSystem",
    "autonomy.stream": "RealTimeModelUpdater UpdateStrategy",
    "collection": "ConversationMetadataCollector",
    "contracts": "Analyzer HostMemory MemoryStore",
    "corpora.corpus_file": "CorpusFile",
    "learner": "AutonomousLearner create_autonomous_learner",
    "monitoring.performance": "PerformanceMonitor init_performance_monitor",
    "pipeline": "IncrementalTrainingPipeline",
    "records": "Analysis ConversationMetadata Entity IngestReport LabelledText LearningCycleResult "
    "LearningMetrics LearningPlan ModelVersion TenantStatus UserFeedback ValidationResult",
    "settings": "Settings load_settings",
    "validation": "ModelValidator",
}
_WITHOUT_SPACY = ("contracts", "records", "settings")
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "Analysis",
    "Analyzer",
    "AutomatedLearningSystem",
    "AutonomousLearner",
    "ConversationMetadata",
    "ConversationMetadataCollector",
    "CorpusFile",
    "Entity",
    "HostMemory",
    "IncrementalTrainingPipeline",
    "IngestReport",
    "LabelledText",
    "LearningCycleResult",
    "LearningMetrics",
    "LearningPlan",
    "MemoryStore",
    "ModelValidator",
    "ModelVersion",
    "PerformanceMonitor",
    "RealTimeModelUpdater",
    "Settings",
    "SpacyAnalyzer",
    "TenantStatus",
    "UpdateStrategy",
    "UserFeedback",
    "ValidationResult",
    "create_autonomous_learner",
    "create_spacy_analyzer",
    "init_performance_monitor",
    "load_settings",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] not in _WITHOUT_SPACY:
        import_spacy()
    return lazily(f"{__name__}.{_HOMES[name]}", name)


def __dir__() -> list[str]:
    return __all__
