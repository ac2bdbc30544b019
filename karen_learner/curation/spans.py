"""Whether entity spans can be learned from: inside the text, apart from each other, on token bounds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import spacy
from spacy.language import Language

from karen_learner.records import EntitySpan


def span_problem(text: str, spans: Iterable[EntitySpan]) -> str | None:
    """Why these spans cannot belong to this text, or None if they can."""
    last_end = 0
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if span.end > len(text):
            return f"{_name(span)} ends after the text, which has {len(text)} characters"
        if span.start < last_end:
            return f"{_name(span)} overlaps another entity"
        last_end = span.end
    return None


def _name(span: EntitySpan) -> str:
    return f"entity {span.label!r} at {span.start}-{span.end}"


class TokenAligner:
    """Checks spans against the tokens of a language. Thread-safe; the tokenizer is made on first use.

    spaCy drops a gold span that does not begin and end with a token, with no more than a warning; and
    its entity recognizer cannot learn one that begins or ends with white space.
    """

    def __init__(self, language: str) -> None:
        self._language = language
        self._nlp: Language | None = None
        self._lock = threading.Lock()

    def misfit(self, text: str, spans: Sequence[EntitySpan]) -> str | None:
        """Which span is not made of whole tokens, or None if all of them are."""
        if not spans:
            return None
        with self._lock:
            return self._first_misfit(text, spans)

    def _first_misfit(self, text: str, spans: Sequence[EntitySpan]) -> str | None:
        nlp = self._nlp = self._nlp or spacy.blank(self._language)
        with nlp.memory_zone():
            doc = nlp.make_doc(text)
            for span in spans:
                words = text[span.start : span.end]
                if doc.char_span(span.start, span.end) is None:
                    return f"{_name(span)} is not aligned with the tokens of {words!r}"
                if words != words.strip():
                    return f"{_name(span)} begins or ends with white space"
        return None
