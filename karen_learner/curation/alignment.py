"""Fits entity spans to the tokens of a pipeline. Other spans become unannotated: they are unknown.

The tokenizer is that of the tenant's champion: a copy of it, a pipeline without pipes, may run in another
thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import spacy
from asyncio_extras import call_in_executor
from cachetools import LRUCache
from spacy.language import Language
from spacy.util import get_lang_class
from thinc.api import Config

from karen_learner.components.documents import make_doc, small_zone
from karen_learner.errors import ModelError
from karen_learner.models.live import LiveModel
from karen_learner.models.loading import is_saved_tokenizer
from karen_learner.models.versions import ModelRegistry
from karen_learner.records import EntitySpan, LabelledText
from karen_learner.records.offsets import span_name

LabelledT = TypeVar("LabelledT", bound=LabelledText)
logger = logging.getLogger(__name__)
TOKENIZERS_IN_MEMORY = 16
_HOOKS = ("before_creation", "after_creation", "after_pipeline_creation")
_SHARED = ("vocab",)


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


Tokenizers = Callable[[str], Awaitable[Language | None]]
"""Gives the tokenizer for a tenant; None for that of `training.language`."""


def tokenizer_of(nlp: Language) -> Language:
    """A pipeline with a copy of the tokenizer. Raises ModelError for a tokenizer that cannot be copied."""
    blank = _blank(nlp.config["nlp"])
    original, copy = cast(Any, nlp.tokenizer), cast(Any, blank.tokenizer)
    if type(copy) is not type(original) or not hasattr(original, "to_bytes"):
        raise ModelError(f"the tokenizer {type(original).__name__} cannot be copied")
    copy.from_bytes(original.to_bytes(exclude=_SHARED), exclude=_SHARED)
    return blank


def tokenizer_in(folder: Path, known: Iterable[Language] = ()) -> Language:
    """A pipeline with the tokenizer of a saved pipeline: one of the known ones if it is equal.

    Raises ModelError if it cannot be read.
    """
    try:
        section = _without_pipes(Config().from_disk(folder / "config.cfg")["nlp"])
        for equal in known:
            if _without_pipes(equal.config["nlp"]) == section and is_saved_tokenizer(equal, folder):
                return equal
        blank = _blank(section)
        if not is_saved_tokenizer(blank, folder):
            cast(Any, blank.tokenizer).from_disk(folder / "tokenizer", exclude=_SHARED)
    except (OSError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise ModelError(f"the tokenizer in {folder} cannot be read: {error}") from error
    return blank


def _blank(section: Mapping[str, Any]) -> Language:
    """A pipeline without pipes from the section `nlp` of a config."""
    values = _without_pipes(section)
    return get_lang_class(values["lang"]).from_config({"nlp": values}, validate=False)


def _without_pipes(section: Mapping[str, Any]) -> dict[str, Any]:
    values = {**section, **dict.fromkeys(_HOOKS), "pipeline": [], "disabled": []}
    values.pop("vectors", None)
    return values


class ServedTokenizers:
    """The tokenizer of a tenant's champion, else of the base pipeline; None without either."""

    def __init__(
        self, registry: ModelRegistry, base: Callable[[], Awaitable[LiveModel | None]] | None
    ) -> None:
        self._registry = registry
        self._base = base
        self._of_base: Language | None = None
        self._cached: LRUCache[Path, Language] = LRUCache(TOKENIZERS_IN_MEMORY)

    async def __call__(self, tenant_id: str) -> Language | None:
        """The tokenizer. One that cannot be read or copied is logged, and counts as none."""
        champion = await self._registry.champion(tenant_id)
        try:
            return await (self._base_tokenizer() if champion is None else self._in(Path(champion.path)))
        except ModelError as error:
            logger.warning("%s: spans are checked with the tokenizer of training.language", error)
            return None

    async def _in(self, folder: Path) -> Language:
        if folder not in self._cached:
            known = tuple(self._cached.values())
            self._cached[folder] = await call_in_executor(tokenizer_in, folder, known)
        return self._cached[folder]

    async def _base_tokenizer(self) -> Language | None:
        if self._of_base is None and self._base is not None:
            model = await self._base()
            if model is not None:
                self._of_base = await model.run(tokenizer_of)
        return self._of_base
