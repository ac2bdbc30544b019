"""Adapters for hosts with their own analyzer or memory."""

from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import spacy

from karen_learner import create_autonomous_learner
from karen_learner.errors import InvalidInput
from karen_learner.integrations import (
    HostAnalyzer,
    MemoryType,
    WebUIMemory,
    as_analyzer,
    as_entities,
    as_host_memory,
    as_label,
)
from karen_learner.records import Analysis


class Detectors:
    """A host's analyzer with one coroutine per task."""

    def __init__(self) -> None:
        self.deployed: list[str] = []

    async def _detect_intent_async(self, text: str) -> Any:
        return {"intent": "greet", "confidence": 0.8}

    async def _sentiment_async(self, text: str) -> Any:
        return "positive", 0.7

    async def _entities_async(self, text: str) -> Any:
        return [("Oslo", "place")]

    def on_deployed(self, version: str, path: Path) -> None:
        self.deployed.append(version)


class WebUI:
    """The memory of a chat web interface."""

    def __init__(self) -> None:
        self.stored: list[dict[str, Any]] = []

    async def store_web_ui_memory(self, **memory: Any) -> str:
        self.stored.append(memory)
        return str(len(self.stored))

    async def query_memories(self, tenant_id: str, query: Any) -> list[dict[str, Any]]:
        return [memory for memory in self.stored if memory["tenant_id"] == tenant_id]


async def test_a_host_with_detectors_supplies_the_metadata(tmp_path: Path) -> None:
    host = Detectors()
    async with create_autonomous_learner(tmp_path, spacy_analyzer=host) as learner:
        metadata = await learner.collect_conversation_metadata("t", "hello Oslo", "hi", "u")
    assert metadata.intent_detected == "greet"
    assert metadata.sentiment_detected == "positive"
    assert metadata.entities_extracted == (("Oslo", "place"),)
    assert not metadata.degraded


async def test_a_host_receives_deployments() -> None:
    host = Detectors()
    await HostAnalyzer(host).on_deployed("v0001", Path("models"))
    assert host.deployed == ["v0001"]


async def test_a_failing_host_analyzer_is_replaced_by_the_fallback(tmp_path: Path) -> None:
    class Broken(Detectors):
        async def _sentiment_async(self, text: str) -> Any:
            raise RuntimeError("no such model")

    for fallback, sentiment in (("none", None), ("rules", "negative")):
        async with create_autonomous_learner(
            tmp_path, spacy_analyzer=Broken(), overrides={"analysis.fallback": fallback}
        ) as learner:
            metadata = await learner.collect_conversation_metadata("t", "this is terrible", "hi", "u")
        assert metadata.degraded
        assert metadata.sentiment_detected == sentiment


async def test_a_host_memory_receives_every_turn_and_is_importable(tmp_path: Path) -> None:
    host = WebUI()
    async with create_autonomous_learner(tmp_path / "one", memory_service=host) as learner:
        kept = await learner.collect_conversation_metadata("t", "hello", "hi there", "ann")
        await learner.collect_conversation_metadata("t", "a secret", "ok", "bob", {"consent": False})
        await learner.collect_conversation_metadata("other", "hello", "hi", "cem")
    assert [memory["content"] for memory in host.stored] == ["hello", "", "hello"]
    for memory in host.stored:
        assert memory["memory_type"] == MemoryType.INSIGHT == "insight"
        assert memory["tags"] == ["autonomous_learning", "conversation_metadata"]
        assert memory["ai_generated"] is True
    assert host.stored[0]["metadata"]["turn_id"] == kept.turn_id
    assert host.stored[1]["metadata"]["assistant_response"] is None
    async with create_autonomous_learner(tmp_path / "two") as learner:
        report = await learner.ingest("t", WebUIMemory(host).turns("t"))
        assert (report.turns, report.skipped_count) == (1, 1)
        assert report.skipped[0].line == 2
        imported = await learner.store.get_turn("t", kept.turn_id)
        assert imported is not None
        assert imported.user_text == "hello"


async def test_a_host_can_supply_its_own_enum_of_memory_types(tmp_path: Path) -> None:
    class HostMemoryType(Enum):
        INSIGHT = 7

    host = WebUI()
    memory = WebUIMemory(host, memory_type=HostMemoryType.INSIGHT)
    async with create_autonomous_learner(tmp_path, memory_service=memory) as learner:
        await learner.collect_conversation_metadata("t", "hello", "hi there", "ann")
    assert host.stored[0]["memory_type"] is HostMemoryType.INSIGHT


async def test_memories_of_another_tenant_are_not_imported(tmp_path: Path) -> None:
    class ReturnsAllTenants(WebUI):
        async def query_memories(self, tenant_id: str, query: Any) -> list[dict[str, Any]]:
            return self.stored

    host = ReturnsAllTenants()
    async with create_autonomous_learner(tmp_path / "one", memory_service=host) as learner:
        mine = await learner.collect_conversation_metadata("t", "hello", "hi", "ann")
        theirs = await learner.collect_conversation_metadata("other", "our secret", "hi", "cem")
    host.stored.append({"tenant_id": "other", "content": "another", "metadata": {"user_id": "cem"}})
    async with create_autonomous_learner(tmp_path / "two") as learner:
        report = await learner.ingest("t", WebUIMemory(host).turns("t"))
        assert (report.turns, report.skipped_count) == (1, 2)
        assert [line.line for line in report.skipped] == [2, 3]
        assert "belongs to the tenant 'other'" in report.skipped[0].reason
        assert await learner.store.get_turn("t", mine.turn_id) is not None
        assert await learner.store.get_turn("t", theirs.turn_id) is None


async def test_a_failing_host_memory_loses_no_turn(tmp_path: Path) -> None:
    class Broken:
        async def remember(self, turn: Any) -> None:
            raise OSError("disk full")

    async with create_autonomous_learner(tmp_path, memory_service=Broken()) as learner:
        await learner.collect_conversation_metadata("t", "hello", "hi", "u")
        assert (await learner.status("t")).counts.turns == 1


async def test_an_invalid_memory_becomes_a_line_with_an_error() -> None:
    host = WebUI()
    host.stored = [
        {"tenant_id": "t", "content": "fine", "metadata": '{"user_id": "ann"}'},
        {"tenant_id": "t", "content": "bad", "metadata": "{not json"},
        {"tenant_id": "t", "content": "bad", "metadata": ["a list"]},
    ]
    lines = [line async for line in WebUIMemory(host).turns("t")]
    assert [line.error is None for line in lines] == [True, False, False]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("greet", ("greet", 0.5)),
        (("greet", 0.9), ("greet", 0.9)),
        ({"label": "greet", "score": 1.7}, ("greet", 1.0)),
        ({"intent": "greet"}, ("greet", 0.5)),
        (None, (None, 0.0)),
        ("", (None, 0.0)),
    ],
)
def test_as_label_accepts_every_form(answer: Any, expected: tuple[str | None, float]) -> None:
    assert as_label(answer, "intent") == expected


def test_as_entities_accepts_pairs_and_mappings() -> None:
    text = "from Oslo to Oslo"
    pairs = as_entities([("Oslo", "place"), ("Oslo", "place"), ("Rome", "place")], text)
    assert [(entity.start, entity.end) for entity in pairs] == [(5, 9), (13, 17)]
    mapped = as_entities(
        [{"start": 5, "end": 9, "label": "place"}, {"start": 5, "end": 99, "label": "x"}], text
    )
    assert [(entity.start, entity.text) for entity in mapped] == [(5, "Oslo")]
    assert as_entities(None, text) == ()


def test_an_object_without_the_methods_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="is no analyzer"):
        as_analyzer(object())
    with pytest.raises(InvalidInput, match="is no memory"):
        as_host_memory(object())


class SingleTextHost:
    """An analyzer without `analyze_many`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.deployed: list[str] = []

    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
        self.texts.append(text)
        return Analysis(intent=text, intent_confidence=0.5, sentiment=None, sentiment_confidence=0.0)

    async def on_deployed(self, version: str, path: Path) -> None:
        self.deployed.append(version)


@pytest.mark.parametrize("host", [SingleTextHost(), Detectors()])
async def test_a_host_for_single_texts_analyzes_many(host: Any) -> None:
    analyzer = as_analyzer(host)
    analyses = await analyzer.analyze_many(["greet", "leave"], tenant_id="t")
    assert analyses == [await analyzer.analyze(text, tenant_id="t") for text in ("greet", "leave")]
    await analyzer.on_deployed("v0001", Path("models"))
    assert host.deployed == ["v0001"]


def test_an_analyzer_is_returned_unchanged() -> None:
    class Own:
        async def analyze_many(self, texts: Any, *, tenant_id: str | None = None) -> list[Analysis]:
            return [await self.analyze(text, tenant_id=tenant_id) for text in texts]

        async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
            return Analysis(intent=None, intent_confidence=0.0, sentiment=None, sentiment_confidence=0.0)

        async def on_deployed(self, version: str, path: Path) -> None: ...

    own = Own()
    assert as_analyzer(own) is own


@pytest.mark.parametrize("pipeline", ["en_core_web_sm", Path("model"), spacy.blank("xx")])
def test_a_pipeline_in_place_of_an_analyzer_names_the_function_that_makes_one(pipeline: object) -> None:
    with pytest.raises(InvalidInput, match=r"create_spacy_analyzer\(pipeline\)"):
        as_analyzer(pipeline)


def test_a_store_of_an_earlier_release_is_refused_with_the_methods_that_it_lacks(tmp_path: Path) -> None:
    class Former:
        async def start(self) -> None: ...

    with pytest.raises(InvalidInput, match=r"Former is no MemoryStore of this release: implement .*snapshot"):
        create_autonomous_learner(tmp_path, store=Former())
