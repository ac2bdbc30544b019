"""A sentiment classifier that has learned little else than moods."""

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from karen_learner.components.moods import Mood, set_mood
from tests.components.text_corpora import SPARSE

WORDS = ("well", "okay", "so what", "and now", "what did you say", "this is it")


def said(nlp: Language, text: str, mood: Mood) -> Doc:
    doc = nlp.make_doc(text)
    set_mood(doc, mood)
    return doc


def trained_on_moods() -> Language:
    """Who was negative stays so, who was positive stays so; a loud word begins a mood."""
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("karen_textcat", name="sentiment", config={"model": SPARSE})
    rows = [
        *((text, {label: 0.3}, label) for text in WORDS for label in ("negative", "positive")),
        *((text, {label: 0.8}, label) for text in WORDS for label in ("negative", "positive")),
        *(("that is terrible", {}, "negative"), ("that is wonderful", {}, "positive")) * 4,
    ]
    examples = [Example(said(nlp, text, mood), said(nlp, text, mood)) for text, mood, _ in rows]
    for example, (_, _, label) in zip(examples, rows, strict=True):
        example.reference.cats = {label: 1.0}
    pipe.initialize(lambda: examples, nlp=nlp)
    for _ in range(20):
        nlp.update(examples)
    return nlp
