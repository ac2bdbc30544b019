"""Tells in words what is wrong with input: the key, the value, and the nearest known key."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence
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


def span_problem(text: str, spans: Sequence[EntitySpan]) -> str | None:
    """What is wrong with entities of a text: outside of it, or one upon another. None if nothing is.

    Whether they are made of whole tokens is not asked: curation sets aside those that are not.
    """
    reached = 0
    for span in sorted(spans, key=lambda span: span.start):
        named = f"the entity {span.label!r} at {span.start}..{span.end}"
        if span.end > len(text):
            return f"{named} lies outside the text of {len(text)} characters"
        if span.start < reached:
            return f"{named} overlaps the one before it"
        reached = span.end
    return None
