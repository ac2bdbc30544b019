"""A turn with its feedback becomes stored metadata; files become turns and labelled texts."""

from karen_learner.collection.collector import ConversationMetadataCollector
from karen_learner.collection.hosts import HostNews
from karen_learner.collection.turns import parse_feedback
from karen_learner.corpora.importers import aiter_records, iter_records, known_suffixes, register_importer
from karen_learner.corpora.parsing import ImportedLine, TurnInput, imported_line

__all__ = [
    "ConversationMetadataCollector",
    "HostNews",
    "ImportedLine",
    "TurnInput",
    "aiter_records",
    "imported_line",
    "iter_records",
    "known_suffixes",
    "parse_feedback",
    "register_importer",
]
