"""A turn with its feedback becomes stored metadata."""

from karen_learner.collection.collector import ConversationMetadataCollector
from karen_learner.collection.turns import CharacterSanitizer

__all__ = ["CharacterSanitizer", "ConversationMetadataCollector"]
