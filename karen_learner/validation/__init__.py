"""Scores of a candidate and the champion on judged texts, and the verdict of the gates."""

from karen_learner.validation.evidence import Agreement, Anchor, Evidence, next_risk
from karen_learner.validation.gate import ModelValidator, judge
from karen_learner.validation.results import Prediction
from karen_learner.validation.scoring import ScoredTexts, score

__all__ = [
    "Agreement",
    "Anchor",
    "Evidence",
    "ModelValidator",
    "Prediction",
    "ScoredTexts",
    "judge",
    "next_risk",
    "score",
]
