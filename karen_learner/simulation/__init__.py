"""Labelled texts stand in for users: the main job from end to end, and what it is worth."""

from karen_learner.simulation.corpora import Corpus, read_corpus, shipped_corpus
from karen_learner.simulation.poison import Attack, attack
from karen_learner.simulation.refit import Refit, refit
from karen_learner.simulation.run import Exchange, Step, evaluate, simulate
from karen_learner.simulation.scenario import Habits, Scenario
from karen_learner.simulation.scoring import Scores
from karen_learner.simulation.users import Crowd

__all__ = [
    "Attack",
    "Corpus",
    "Crowd",
    "Exchange",
    "Habits",
    "Refit",
    "Scenario",
    "Scores",
    "Step",
    "attack",
    "evaluate",
    "read_corpus",
    "refit",
    "shipped_corpus",
    "simulate",
]
