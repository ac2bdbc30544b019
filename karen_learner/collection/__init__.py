"""A turn with its feedback becomes stored metadata."""

from karen_learner.collection.collector import ConversationMetadataCollector, TurnForwarder
from karen_learner.collection.turns import CharacterSanitizer, PersonaRules, parse_feedback
from karen_learner.corpora.importers import aiter_records, iter_records, known_suffixes, register_importer
from karen_learner.corpora.parsing import ImportedLine, TurnInput, imported_line

__all__ = [
    "CharacterSanitizer",
    "ConversationMetadataCollector",
    "ImportedLine",
    "PersonaRules",
    "TurnForwarder",
    "TurnInput",
    "aiter_records",
    "imported_line",
    "iter_records",
    "known_suffixes",
    "parse_feedback",
    "register_importer",
]
