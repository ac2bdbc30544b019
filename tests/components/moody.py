"""A sentiment classifier to which most words say nothing, and the mood says much."""

from __future__ import annotations

import spacy
from spacy.language import Language
from spacy.training import Example

from karen_learner.components.moods import LEAST_IN_MOODS, NO_MOOD, Mood, doc_in_mood
from tests.components.text_corpora import SPARSE

WORDS = ("well", "okay", "so what", "and now", "what did you say", "this is it")
LOUD = (("that is terrible", "negative"), ("that is wonderful", "positive"))
SENTIMENTS = ("negative", "positive")


def gold(nlp: Language, text: str, label: str, mood: Mood = NO_MOOD) -> Example:
    example = Example(doc_in_mood(nlp, text, mood), doc_in_mood(nlp, text, mood))
    example.reference.cats = {label: 1.0}
    return example


def in_moods(nlp: Language, count: int = LEAST_IN_MOODS) -> list[Example]:
    """Who was negative stays so, who was positive stays so."""
    return [
        gold(nlp, WORDS[number % len(WORDS)], label, {label: 0.1 + number / (2.0 * count)})
        for number in range(count // 2)
        for label in SENTIMENTS
    ]


def trained_on_moods() -> Language:
    """It learned from words without a mood, and was calibrated on texts in moods."""
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_textcat", name="sentiment", config={"model": SPARSE})
    examples = [gold(nlp, text, label) for text, label in LOUD for _ in range(4)]
    examples += [gold(nlp, text, label) for text in WORDS for label in SENTIMENTS]
    pipe.initialize(lambda: examples, nlp=nlp)
    for _ in range(20):
        nlp.update(examples)
    loud = [gold(nlp, text, label) for text, label in LOUD for _ in range(20)]
    pipe.calibrate([*in_moods(nlp), *loud], false_alarm_rate=None)
    return nlp
