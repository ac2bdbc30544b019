"""Scores of a candidate and the champion on one holdout, and the verdict of the gate."""

from karen_learner.validation.gate import ModelValidator, judge
from karen_learner.validation.results import Prediction
from karen_learner.validation.scoring import ScoredHoldout, score

__all__ = ["ModelValidator", "Prediction", "ScoredHoldout", "judge", "score"]
