"""Keys, ids and draws of examples; the store recomputes keys with the same functions."""

from karen_learner.text_identity import draw, example_id, group_key, text_key

__all__ = ["draw", "example_id", "group_key", "text_key"]
