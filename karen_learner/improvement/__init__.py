"""Analyses performance by component, recommends changes, and measures their effects."""

from karen_learner.improvement.engine import AIAnalysisEngine, AnalysisConfig
from karen_learner.improvement.roi import calculate_roi

__all__ = ["AIAnalysisEngine", "AnalysisConfig", "calculate_roi"]
