"""What the models say of a text."""

from karen_learner.analysis.create import create_spacy_analyzer
from karen_learner.analysis.fallback import RuleBasedFallback
from karen_learner.analysis.features import linguistic_features
from karen_learner.analysis.persona import PersonaRules
from karen_learner.analysis.spacy_analyzer import SpacyAnalyzer
from karen_learner.analysis.word_tables import common_words

__all__ = [
    "PersonaRules",
    "RuleBasedFallback",
    "SpacyAnalyzer",
    "common_words",
    "create_spacy_analyzer",
    "linguistic_features",
]
