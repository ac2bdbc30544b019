"""Copies of tokenizers: of pipelines in memory and on disk."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import compile_infix_regex

from karen_learner.curation.alignment import ServedTokenizers, tokenizer_in, tokenizer_of
from karen_learner.errors import ModelError
from karen_learner.memory import open_store
from karen_learner.models.files import HomeLayout
from karen_learner.models.live import LiveModel
from karen_learner.models.versions import ModelRegistry
from karen_learner.settings import load_settings

TEXT = "reset router_ax12, don't ask"
TOKENS = ["reset", "router", "_", "ax12", ",", "do", "n't", "ask"]


def pipeline() -> Language:
    """A pipeline with a pipe, and with a tokenizer that also cuts at underscores."""
    nlp = spacy.blank("en")
    tokenizer: Any = nlp.tokenizer
    tokenizer.infix_finditer = compile_infix_regex([*(nlp.Defaults.infixes or ()), "_"]).finditer
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("karen_ner", name="ner").add_label("model")
    nlp.initialize()
    return nlp


def tokens(nlp: Language) -> list[str]:
    return [token.text for token in nlp.make_doc(TEXT)]


def test_a_copy_has_the_tokens_and_nothing_else(tmp_path: Path) -> None:
    nlp = pipeline()
    nlp.to_disk(tmp_path)
    for copy in (tokenizer_of(nlp), tokenizer_in(tmp_path)):
        assert tokens(copy) == tokens(nlp) == TOKENS
        assert copy.pipe_names == []
        assert copy.vocab is not nlp.vocab


def test_equal_saved_tokenizers_are_one_in_memory(tmp_path: Path) -> None:
    spacy.blank("en").to_disk(tmp_path / "plain")
    pipeline().to_disk(tmp_path / "first")
    pipeline().to_disk(tmp_path / "second")
    plain = tokenizer_in(tmp_path / "plain")
    first = tokenizer_in(tmp_path / "first", [plain])
    assert first is not plain
    assert tokens(first) == TOKENS
    assert tokenizer_in(tmp_path / "second", [plain, first]) is first


def test_a_tokenizer_that_cannot_be_copied_or_read_is_told(tmp_path: Path) -> None:
    nlp = spacy.blank("en")

    class Whole:
        def __call__(self, text: str) -> Doc:
            return Doc(nlp.vocab, words=[text])

    whole: Any = Whole()
    nlp.tokenizer = whole
    with pytest.raises(ModelError, match="Whole cannot be copied"):
        tokenizer_of(nlp)
    with pytest.raises(ModelError, match="cannot be read"):
        tokenizer_in(tmp_path)


async def test_the_base_pipeline_decides_without_a_champion(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(environment={})
    async with open_store(":memory:", settings.store) as store:
        await check_tokenizers(ModelRegistry(store, HomeLayout(tmp_path, settings.paths)), caplog)


async def check_tokenizers(registry: ModelRegistry, caplog: pytest.LogCaptureFixture) -> None:
    model = LiveModel(pipeline(), tasks={"entities": "ner"})

    async def base() -> LiveModel | None:
        return model

    tokenizers = ServedTokenizers(registry, base)
    found = await tokenizers("acme")
    assert found is not None
    assert tokens(found) == TOKENS
    assert await tokenizers("another") is found
    assert await ServedTokenizers(registry, None)("acme") is None

    async def broken() -> LiveModel | None:
        raise ModelError("no model")

    with caplog.at_level(logging.WARNING):
        assert await ServedTokenizers(registry, broken)("acme") is None
    assert "no model" in caplog.text
    model.close()
