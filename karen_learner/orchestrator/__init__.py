"""Middleware for hosts that answer with an LLM."""

from karen_learner.orchestrator.middleware import Orchestrator
from karen_learner.orchestrator.replies import Prompt, Reply
from karen_learner.orchestrator.sessions import SessionReport, TrainingSession

__all__ = ["Orchestrator", "Prompt", "Reply", "SessionReport", "TrainingSession"]
