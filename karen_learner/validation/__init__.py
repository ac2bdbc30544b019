"""Candidate against champion becomes a verdict."""

from karen_learner.validation.gate import judge
from karen_learner.validation.predictions import Prediction
from karen_learner.validation.scoring import ScoredHoldout, score
from karen_learner.validation.validator import ModelValidator

__all__ = ["ModelValidator", "Prediction", "ScoredHoldout", "judge", "score"]
