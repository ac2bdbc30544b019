"""The contract of `Analyzer`, for every implementation."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from karen_learner.analysis import create_spacy_analyzer
from karen_learner.contracts import Analyzer
from karen_learner.integrations import as_analyzer
from karen_learner.records import Analysis

TEXTS = ["hello there", "what is my balance?", "thanks a lot"]


class Detectors:
    async def _detect_intent_async(self, text: str) -> Any:
        return text.split()[0], 0.7

    async def _sentiment_async(self, text: str) -> Any:
        return None

    async def _entities_async(self, text: str) -> Any:
        return []


class SingleTexts:
    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
        return Analysis(intent=text, intent_confidence=0.5, sentiment=None, sentiment_confidence=0.0)

    async def on_deployed(self, version: str, path: Path) -> None: ...


@pytest.fixture(params=[create_spacy_analyzer, Detectors, SingleTexts], ids=["spacy", "detectors", "single"])
def analyzer(request: pytest.FixtureRequest) -> Analyzer:
    return as_analyzer(request.param())


async def test_it_is_an_analyzer(analyzer: Analyzer) -> None:
    assert isinstance(analyzer, Analyzer)
    assert isinstance(await analyzer.analyze("hello"), Analysis)


async def test_many_analyses_equal_single_ones_in_order(analyzer: Analyzer) -> None:
    alone = [await analyzer.analyze(text, tenant_id="t") for text in TEXTS]
    assert await analyzer.analyze_many(TEXTS, tenant_id="t") == alone
    assert await analyzer.analyze_many([], tenant_id="t") == []


async def test_concurrent_analyses_equal_single_ones(analyzer: Analyzer) -> None:
    alone = [await analyzer.analyze(text) for text in TEXTS]
    assert await asyncio.gather(*map(analyzer.analyze, TEXTS)) == alone


async def test_an_announced_deployment_leaves_the_answers_without_a_tenant(analyzer: Analyzer) -> None:
    before = await analyzer.analyze(TEXTS[0])
    await analyzer.on_deployed("v0001", Path("models/t/v0001"))
    assert await analyzer.analyze(TEXTS[0]) == before
