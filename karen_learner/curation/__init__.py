"""Stored turns and gold become examples, and examples the data of a cycle."""

from karen_learner.curation.curator import Curator
from karen_learner.curation.selection import Curated
from karen_learner.records import GoldReport

__all__ = ["Curated", "Curator", "GoldReport"]
