"""Stored metadata becomes a trusted data set."""

from karen_learner.curation.candidates import candidate
from karen_learner.curation.curator import Curator, Selection
from karen_learner.records import GoldReport

__all__ = ["Curator", "GoldReport", "Selection", "candidate"]
