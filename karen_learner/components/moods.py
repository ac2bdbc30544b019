"""How the turns of a conversation before a text sounded: whoever was annoyed a moment ago may still be.

A mood is, for each sentiment found in the turns before, a share from 0 to 1: the mean of what a classifier
said of these turns, in which each turn counts a part of what the next one does. It lies in the `user_data` of
the document that is read. What it says of a text, a text categorizer of ours fits where it is calibrated, on
what it said of texts in moods that it had not learned from:

    log p(label | text, mood) = log p(label | text) + deviations from the usual mood @ effect + a constant

So a mood as usual changes nothing, and that there is a mood says nothing at all: texts without one, which
come from elsewhere and have other labels, teach nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.language import Language
from spacy.tokens import Doc

Floats = NDArray[Any]
Mood = Mapping[str, float]
"""Shares by sentiment, which add up to 1 at most. Empty: nothing is known of the turns before."""

NO_MOOD: Mood = MappingProxyType({})
KEPT = 0.7
"""What is left of a mood after one more turn. Chosen by cross-validation over dialogues."""
SMALLEST_SHARE = 1e-3
"""A smaller share is no part of a mood any more."""
LEAST_IN_MOODS = 100
"""Of fewer texts in moods one cannot tell what a mood says."""
MOST_NOTED = 10_000
"""So many texts in moods are noted while a pipe trains."""
MOST_STEPS = 500
_FLAT = 1e-6
_SMALLEST = 1e-9
_KEY = "karen_learner.mood"


def mood_after(mood: Mood, sentiment: str | None, confidence: float) -> dict[str, float]:
    """The mood after a further turn, of which a classifier says this. None: it says nothing."""
    shares = {label: share * KEPT for label, share in mood.items()}
    if sentiment is not None:
        shares[sentiment] = shares.get(sentiment, 0.0) + confidence * (1.0 - KEPT)
    return {label: share for label, share in shares.items() if share >= SMALLEST_SHARE}


def doc_in_mood(nlp: Language, text: str, mood: Mood) -> Doc:
    """The document of a text, before any pipe has read it, which tells how the turns before it sounded."""
    doc = nlp.make_doc(text)
    set_mood(doc, mood)
    return doc


def set_mood(doc: Doc, mood: Mood) -> None:
    """Say how the turns before the text sounded."""
    if mood:
        doc.user_data[_KEY] = dict(mood)


def mood_of(doc: Doc) -> Mood:
    """How the turns before the text sounded; empty if nothing was said of it."""
    mood: Mood = doc.user_data.get(_KEY, NO_MOOD)
    return mood


@dataclass(frozen=True)
class MoodEffect:
    """What a mood says of a text, for the first labels of a pipe; it may have got others since.

    It was fitted on so many `texts`. `usual` (labels,) is the share of each in a mood as usual. `weights`
    (labels, labels) is what a larger share of the label of the row adds to the logarithm of the probability
    of that of the column.
    """

    texts: int
    usual: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]

    def of(self, moods: Sequence[Mood], labels: Sequence[str]) -> Floats:
        """What the moods add to the logarithms of probabilities; shape (texts, labels)."""
        known = len(self.usual)
        added = np.zeros((len(moods), len(labels)), dtype=np.float32)
        if any(moods):
            shares = _shares(moods, labels[:known])
            added[:, :known] = _deviations(shares, np.array(self.usual)) @ np.array(self.weights)
        return added

    def as_record(self) -> dict[str, Any]:
        """For JSON. Numbers are strings: spaCy's JSON rounds them."""
        rows = [[repr(weight) for weight in row] for row in self.weights]
        return {"texts": self.texts, "usual": [repr(share) for share in self.usual], "weights": rows}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> MoodEffect:
        """What `as_record` has made."""
        rows = tuple(tuple(float(weight) for weight in row) for row in record["weights"])
        return cls(int(record["texts"]), tuple(float(share) for share in record["usual"]), rows)


@dataclass(frozen=True)
class Judged:
    """What a classifier said of texts that it had not learned from, by their words alone.

    `logits` and `truths` have shape (texts, labels); truths are 1.0 where the label is true of the text.
    """

    logits: Floats
    truths: Floats
    moods: Sequence[Mood]


class Notes:
    """What a classifier says of texts in moods before it learns from them for the first time.

        Blum, Kalai, Langford: Beating the Hold-out: Bounds for K-fold and Progressive Cross-Validation,
        COLT 1999.

    Nothing of the texts is kept.
    """

    def __init__(self) -> None:
        self._rows: dict[int, tuple[Floats, int, Mood]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, docs: Sequence[Doc], probabilities: Floats, truths: Floats) -> None:
        """Note those of the documents that are in a mood and were not met before.

        `probabilities` and `truths` have shape (texts, labels).
        """
        for doc, said, true in zip(docs, probabilities, truths, strict=True):
            mood = mood_of(doc)
            if mood and len(self._rows) < MOST_NOTED:
                met = hash((doc.text, *mood.items()))
                said = np.log(np.maximum(said, _SMALLEST))
                self._rows.setdefault(met, (said, int(true.argmax()), mood))

    def judged(self) -> Judged:
        """All that was noted; something must have been."""
        logits, labels, moods = zip(*self._rows.values(), strict=True)
        return Judged(np.array(logits), np.eye(len(logits[0]))[list(labels)], moods)


def fit_effect(judged: Sequence[Judged], labels: Sequence[str]) -> MoodEffect | None:
    """The effect with the largest likelihood, given what the words say.

    A multinomial logistic regression with a standard normal prior on the weights. None if too few of the
    texts are in a mood that has any of the labels.
    """
    shares = np.concatenate([_shares(part.moods, labels) for part in judged])
    heard = shares.any(axis=1)
    if heard.sum() < LEAST_IN_MOODS:
        return None
    logits = np.concatenate([part.logits for part in judged])[heard].astype(np.float64)
    truths = np.concatenate([part.truths for part in judged])[heard]
    usual = shares[heard].sum(axis=0) / shares[heard].sum()
    deviations = _deviations(shares[heard], usual)
    weights = _fit(deviations, logits, truths)
    return MoodEffect(int(heard.sum()), tuple(usual.tolist()), tuple(map(tuple, weights.tolist())))


def _shares(moods: Sequence[Mood], labels: Sequence[str]) -> Floats:
    shares = [[mood.get(label, 0.0) for label in labels] for mood in moods]
    return np.array(shares, dtype=np.float64).reshape(len(moods), len(labels))


def _deviations(shares: Floats, usual: Floats) -> Floats:
    """How far shares are above those of the usual mood of the same weight; they add up to 0."""
    result: Floats = shares - shares.sum(axis=1, keepdims=True) * usual
    return result


def _fit(deviations: Floats, logits: Floats, truths: Floats) -> Floats:
    """Nesterov's accelerated gradient: the loss is convex, and its curvature has a bound."""
    texts = len(deviations)
    ridge = 1.0 / texts
    step = 1.0 / (0.5 * float(np.linalg.norm(deviations, ord=2)) ** 2 / texts + ridge)
    weights = ahead = np.zeros((deviations.shape[1], logits.shape[1]))
    for number in range(MOST_STEPS):
        scores = logits + deviations @ ahead
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        wrong = powers / powers.sum(axis=1, keepdims=True) - truths
        gradient = deviations.T @ wrong / texts + ridge * ahead
        if np.abs(gradient).max() < _FLAT:
            break
        last, weights = weights, ahead - step * gradient
        ahead = weights + number / (number + 3.0) * (weights - last)
    return weights
