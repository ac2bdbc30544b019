"""The learner for synchronous code: scripts, Flask, Celery, notebooks.

    from karen_learner.blocking import create_autonomous_learner

    with create_autonomous_learner("./karen-home") as learner:
        learner.analyze("tenant_123", "what's my balance")

An event loop in a background thread runs the calls. Several threads can use one learner: their concurrent
calls share batches. Callbacks and subscribers of events run in the background thread.
"""

from karen_learner.autonomy.stream import UpdateStrategy
from karen_learner.blocking.autonomy import (
    AutomatedLearningSystem,
    AutomatedRetrainer,
    PerformanceMonitor,
    RealTimeModelUpdater,
    automated_learning_system,
    init_performance_monitor,
)
from karen_learner.blocking.improvement import AIAnalysisEngine, HealthMonitor, ImprovementTracker
from karen_learner.blocking.learner import (
    BlockingAnalyzer,
    BlockingLearner,
    BlockingTrainingPipeline,
    create_autonomous_learner,
    create_spacy_analyzer,
)
from karen_learner.blocking.orchestrator import Orchestrator
from karen_learner.blocking.portal import Blocking, Portal, blocking
from karen_learner.blocking.reports import ReportManager

AutonomousLearner = create_autonomous_learner
"""Both names make a learner, as in `karen_learner`. So a script changes its import only."""

__all__ = [
    "AIAnalysisEngine",
    "AutomatedLearningSystem",
    "AutomatedRetrainer",
    "AutonomousLearner",
    "Blocking",
    "BlockingAnalyzer",
    "BlockingLearner",
    "BlockingTrainingPipeline",
    "HealthMonitor",
    "ImprovementTracker",
    "Orchestrator",
    "PerformanceMonitor",
    "Portal",
    "RealTimeModelUpdater",
    "ReportManager",
    "UpdateStrategy",
    "automated_learning_system",
    "blocking",
    "create_autonomous_learner",
    "create_spacy_analyzer",
    "init_performance_monitor",
]
