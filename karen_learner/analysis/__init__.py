"""Analyses of texts: intent, sentiment, entities and linguistic features."""

from karen_learner.analysis.create import create_spacy_analyzer
from karen_learner.analysis.fallback import RuleBasedFallback
from karen_learner.analysis.features import common_words, linguistic_features
from karen_learner.analysis.spacy_analyzer import SpacyAnalyzer, live_models_of

__all__ = [
    "RuleBasedFallback",
    "SpacyAnalyzer",
    "common_words",
    "create_spacy_analyzer",
    "linguistic_features",
    "live_models_of",
]
