"""Stored turns and gold become examples, and examples the data of a cycle."""

from karen_learner.curation.curator import Curator
from karen_learner.curation.selection import Curated

__all__ = ["Curated", "Curator"]
