"""Promotion, hot swap, rollback."""

from karen_learner.deployment.deployer import Candidate, Deployer, headline_scores
from karen_learner.deployment.serving import Serving, intact_manifest

__all__ = ["Candidate", "Deployer", "Serving", "headline_scores", "intact_manifest"]
