"""Analyses of texts: intent, sentiment, entities and linguistic features."""

from karen_learner.analysis.create import create_spacy_analyzer
from karen_learner.analysis.spacy_analyzer import SpacyAnalyzer

__all__ = ["SpacyAnalyzer", "create_spacy_analyzer"]
