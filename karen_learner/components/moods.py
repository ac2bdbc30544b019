"""How the turns of a conversation before a text sounded: whoever was annoyed a moment ago may still be.

A mood is, for each sentiment found in the turns before, a share from 0 to 1: the mean of what a classifier
said of these turns, in which each turn counts a part of what the next one does. It lies in the `user_data` of
the document that is learned from or predicted; our text categorizers heed it (see `text_ngrams`).
"""

from collections.abc import Mapping

from spacy.tokens import Doc

Mood = Mapping[str, float]
"""Shares by sentiment, which add up to 1 at most. Empty: nothing is known of the turns before."""

KEPT = 0.7
"""What is left of a mood after one more turn."""
SMALLEST_SHARE = 1e-3
"""A smaller share is no part of a mood any more."""
_KEY = "karen_learner.mood"


def mood_after(mood: Mood, sentiment: str | None, confidence: float) -> dict[str, float]:
    """The mood after a further turn, of which a classifier says this. None: it says nothing."""
    shares = {label: share * KEPT for label, share in mood.items()}
    if sentiment is not None:
        shares[sentiment] = shares.get(sentiment, 0.0) + confidence * (1.0 - KEPT)
    return {label: share for label, share in shares.items() if share >= SMALLEST_SHARE}


def set_mood(doc: Doc, mood: Mood) -> None:
    """Say how the turns before the text sounded."""
    if mood:
        doc.user_data[_KEY] = dict(mood)


def mood_of(doc: Doc) -> Mood:
    """How the turns before the text sounded; empty if nothing was said of it."""
    mood: Mood = doc.user_data.get(_KEY, {})
    return mood
