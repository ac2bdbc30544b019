"""Promotion, hot swap and rollback."""

from karen_learner.deployment.champion_sync import ChampionSync
from karen_learner.deployment.promotion import Blank, Deployed, Deployer, LoadedCandidate
from karen_learner.deployment.rollback import Rollback

__all__ = ["Blank", "ChampionSync", "Deployed", "Deployer", "LoadedCandidate", "Rollback"]
