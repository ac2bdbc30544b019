"""Promotion, hot swap, rollback."""

from karen_learner.deployment.deployer import Candidate, Deployer, LoadedCandidate, headline_scores
from karen_learner.deployment.serving import Serving, intact_manifest

__all__ = ["Candidate", "Deployer", "LoadedCandidate", "Serving", "headline_scores", "intact_manifest"]
