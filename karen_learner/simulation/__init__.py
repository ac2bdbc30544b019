"""Simulated users: they send labelled texts as turns and give feedback."""

from karen_learner.simulation.corpora import Corpus, read_corpus, shipped_corpus
from karen_learner.simulation.poison import Attack, attack
from karen_learner.simulation.run import Exchange, Step, simulate
from karen_learner.simulation.scenario import FeedbackRates, Scenario
from karen_learner.simulation.scoring import Refit, Scores, evaluate, refit
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
