"""Tells in words what is wrong with input: the key, the value, and the nearest known key."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from karen_learner.records import EntitySpan


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """One sentence of all that pydantic found wrong."""
    return "; ".join(_describe_item(item, model) for item in error.errors())


def _describe_item(item: Any, model: type[BaseModel]) -> str:
    where = ".".join(map(str, item["loc"])) or "the value"
    if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
        return unknown_key(where, model.model_fields)
    if item["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: {item['msg']} (got {reprlib.repr(item['input'])})"


def unknown_key(name: str, known: Iterable[str]) -> str:
    """That a key is not known, and which one may have been meant."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"unknown key {name!r}" + (f": did you mean {near[0]!r}?" if near else "")


def span_problem(text: str, spans: Iterable[EntitySpan]) -> str | None:
    """The first entity span that exceeds the text or overlaps another one, as a sentence; None if none does.

    Alignment with tokens needs a tokenizer: `curation.examples.TokenAligner` checks it.
    """
    last_end = 0
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if span.end > len(text):
            return f"{span_name(span)} ends after the text, which has {len(text)} characters"
        if span.start < last_end:
            return f"{span_name(span)} overlaps another entity"
        last_end = span.end
    return None


def span_name(span: EntitySpan) -> str:
    """A span in messages: label and offsets."""
    return f"entity {span.label!r} at {span.start}-{span.end}"
