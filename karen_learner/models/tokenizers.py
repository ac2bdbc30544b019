"""Tokenizers of pipelines, as pipelines without pipes that another thread may use."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

from asyncio_extras import call_in_executor
from cachetools import LRUCache
from spacy.language import Language
from spacy.util import get_lang_class
from thinc.api import Config

from karen_learner.errors import ModelError
from karen_learner.models.live import LiveModel, is_saved_tokenizer
from karen_learner.models.versions import ModelRegistry

logger = logging.getLogger(__name__)

TOKENIZERS_IN_MEMORY = 16
_HOOKS = ("before_creation", "after_creation", "after_pipeline_creation")
_SHARED = ("vocab",)

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


def tokenizer_in(folder: Path) -> Language:
    """A pipeline with the tokenizer of a saved pipeline. Raises ModelError if it cannot be read."""
    try:
        blank = _blank(Config().from_disk(folder / "config.cfg")["nlp"])
        if not is_saved_tokenizer(blank, folder):
            cast(Any, blank.tokenizer).from_disk(folder / "tokenizer", exclude=_SHARED)
    except (OSError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise ModelError(f"the tokenizer in {folder} cannot be read: {error}") from error
    return blank


def _blank(section: Mapping[str, Any]) -> Language:
    """A pipeline without pipes from the section `nlp` of a config."""
    values = {**section, **dict.fromkeys(_HOOKS), "pipeline": [], "disabled": []}
    values.pop("vectors", None)
    return get_lang_class(values["lang"]).from_config({"nlp": values}, validate=False)


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
            self._cached[folder] = await call_in_executor(tokenizer_in, folder)
        return self._cached[folder]

    async def _base_tokenizer(self) -> Language | None:
        if self._of_base is None and self._base is not None:
            model = await self._base()
            if model is not None and model.tasks:
                self._of_base = await model.run(tokenizer_of)
        return self._of_base
