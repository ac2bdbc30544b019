"""Fits entity spans to the tokens of a pipeline. What does not fit becomes unannotated: it is unknown."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, TypeVar

import spacy
from spacy.language import Language

from karen_learner.components.documents import make_doc
from karen_learner.corpora.parsing import span_name
from karen_learner.models.vocabulary import small_zone
from karen_learner.records import EntitySpan, LabelledText

LabelledT = TypeVar("LabelledT", bound=LabelledText)


class FittedSpans(NamedTuple):
    """The spans of whole tokens without outer white space, and the ranges of the others.

    `problem` is a sentence about the first of the others; None without any.
    """

    spans: tuple[EntitySpan, ...]
    unannotated: tuple[tuple[int, int], ...] = ()
    problem: str | None = None


class TokenAligner:
    """Fits spans to the tokens of a language, or of a pipeline that nothing else uses. Thread-safe.

    spaCy drops a gold span that does not begin and end with a token, with a mere warning: the tokens count as
    no entity.
    """

    def __init__(self, tokenizer: str | Language) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()

    @cached_property
    def _nlp(self) -> Language:
        return spacy.blank(self._tokenizer) if isinstance(self._tokenizer, str) else self._tokenizer

    def fit(self, text: str, spans: Sequence[EntitySpan]) -> FittedSpans:
        """The spans as far as they fit the tokens of the text."""
        if not spans:
            return FittedSpans(())
        fitting: list[EntitySpan] = []
        unannotated: list[tuple[int, int]] = []
        problem: str | None = None
        with self._lock, small_zone(self._nlp):
            doc = make_doc(self._nlp, text)
            for span in spans:
                trimmed = _trimmed(text, span)
                if trimmed is not None and doc.char_span(trimmed.start, trimmed.end) is not None:
                    fitting.append(trimmed)
                    continue
                unannotated.append((span.start, span.end))
                reason = "has no words" if trimmed is None else "is not aligned with the tokens"
                problem = problem or f"{span_name(span)} {reason}"
        return FittedSpans(tuple(fitting), tuple(unannotated), problem)

    def problem(self, text: str, spans: Sequence[EntitySpan]) -> str | None:
        """The first span that does not fit, as a sentence; None if all do."""
        return self.fit(text, spans).problem


def with_fitting_spans(labelled: LabelledT, fitted: FittedSpans) -> LabelledT:
    """The text with the spans that fit; the others are unannotated. If none fits, entities are unknown."""
    if not labelled.entities or (fitted.problem is None and fitted.spans == labelled.entities):
        return labelled
    if not fitted.spans:
        return labelled.model_copy(update={"entities": None, "unannotated": ()})
    unannotated = tuple(sorted({*labelled.unannotated, *fitted.unannotated}))
    return labelled.model_copy(update={"entities": fitted.spans, "unannotated": unannotated})


def _trimmed(text: str, span: EntitySpan) -> EntitySpan | None:
    """The span without outer white space; None if it has nothing else, or ends after the text."""
    if span.end > len(text):
        return None
    words = text[span.start : span.end]
    start = span.start + len(words) - len(words.lstrip())
    end = span.start + len(words.rstrip())
    if (start, end) == (span.start, span.end):
        return span
    return span.model_copy(update={"start": start, "end": end}) if start < end else None
