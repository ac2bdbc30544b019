"""Tables of words that stay small although memory zones add and remove words."""

from __future__ import annotations

from itertools import pairwise

import pytest
import spacy
from spacy.language import Language

from karen_learner.components import documents
from karen_learner.components.documents import replace_tables
from karen_learner.models.live import LiveModel

TEXT = "Don't fly to New York at 5pm, please!"


@pytest.fixture
def nlp() -> Language:
    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "CITY", "pattern": "New York"}])  # type: ignore[attr-defined]
    return pipeline


def answer(nlp: Language, text: str = TEXT) -> list[tuple[str, str, str, str]]:
    return [(token.text, token.norm_, token.shape_, token.ent_type_) for token in nlp(text)]


def test_a_pipeline_answers_alike_with_new_tables(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    before, strings = answer(nlp), set(nlp.vocab.strings)
    assert not replace_tables(nlp)
    monkeypatch.setattr(documents, "MAX_WORDS", 1)
    for _ in range(3):
        with nlp.memory_zone():
            nlp("some words of a zone")
        assert replace_tables(nlp)
        assert "!" in nlp.vocab, "a common sign"
        assert "unheardof" not in nlp.vocab
        assert strings <= set(nlp.vocab.strings)
        assert answer(nlp) == before
        with nlp.memory_zone():
            assert answer(nlp, f"{TEXT} unheardof") == [*before, ("unheardof", "unheardof", "xxxx", "")]


async def test_the_table_of_a_live_model_does_not_grow_with_the_texts(
    nlp: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if a release of spaCy no longer counts removed words: then find another count of them."""
    monkeypatch.setattr(documents, "MAX_WORDS", 7_000)
    model = LiveModel(nlp, tasks={"entities": "entity_ruler"}, version="v1")
    sizes = []
    for number in range(30):
        words = " ".join(f"w{number}x{at}" for at in range(1000))
        await model.run(lambda pipeline, words=words: len(pipeline(words)))  # type: ignore[misc]
        sizes.append(len(nlp.vocab))
    model.close()
    assert max(sizes) < 7_000 + 2_000
    assert sum(after < before for before, after in pairwise(sizes)) >= 2
