"""Simulation: users who speak labelled texts and give feedback."""

from karen_learner.simulation.corpora import Corpus, read_corpus, shipped_corpus
from karen_learner.simulation.poison import Attack, attack
from karen_learner.simulation.refit import Refit, refit
from karen_learner.simulation.run import Exchange, Step, evaluate, simulate
from karen_learner.simulation.scenario import FeedbackRates, Scenario
from karen_learner.simulation.scoring import Scores
from karen_learner.simulation.users import SimulatedUsers

__all__ = [
    "Attack",
    "Corpus",
    "Exchange",
    "FeedbackRates",
    "Refit",
    "Scenario",
    "Scores",
    "SimulatedUsers",
    "Step",
    "attack",
    "evaluate",
    "read_corpus",
    "refit",
    "shipped_corpus",
    "simulate",
]
