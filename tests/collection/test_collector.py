import asyncio
import logging

import pytest

from karen_learner.analysis.fallback import analyze_by_rules
from karen_learner.collection import ConversationMetadataCollector
from karen_learner.corpora.parsing import TurnInput
from karen_learner.errors import InvalidInput, LearnerClosed, UnknownTurn
from karen_learner.events import EventBus, FeedbackAdded, TurnCollected
from karen_learner.records import Analysis


class CountingAnalyzer:
    """A rule-based analyzer of a host that records its texts and raises a given error."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.error: Exception | None = None
        self.answer: object = None

    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
        self.texts.append(text)
        if self.error is not None:
            raise self.error
        return self.answer or analyze_by_rules(text).model_copy(update={"degraded": False})

    async def analyze_many(self, texts: list[str], *, tenant_id: str | None = None) -> list[Analysis]:
        return [await self.analyze(text, tenant_id=tenant_id) for text in texts]

    async def on_deployed(self, version: str, path: object) -> None: ...


@pytest.fixture
def analyzer():
    return CountingAnalyzer()


@pytest.fixture
def events():
    return EventBus()


@pytest.fixture
def published(events):
    seen: list = []
    events.subscribe(seen.append)
    return seen


@pytest.fixture
def collector(store, analyzer, settings, events):
    return ConversationMetadataCollector(store, analyzer, settings, events=events)


async def test_returned_metadata_is_stored(collector, store):
    metadata = await collector.collect(
        "t", "this is a terrible mess", "sorry", "u", {"satisfaction_score": 0.1}
    )
    assert metadata.sentiment_detected == "negative"
    assert metadata.persona_selected == "empathetic"
    assert metadata.correction_needed
    turn = await store.get_turn("t", metadata.turn_id)
    assert turn.metadata == metadata
    assert (turn.user_text, turn.assistant_response) == ("this is a terrible mess", "sorry")


async def test_refused_input_is_neither_stored_nor_analysed(collector, store, analyzer, events, published):
    for change in (
        {"user_text": " "},
        {"tenant_id": ""},
        {"user_feedback": {"satisfaction": 1}},
        {"turn_id": ""},
    ):
        arguments = {"tenant_id": "t", "user_text": "hi", "assistant_response": "ok", "user_id": "u"}
        with pytest.raises(InvalidInput):
            await collector.collect(**{**arguments, **change})
    assert analyzer.texts == []
    await events.drain()
    assert published == []
    assert await store.tenants() == []


async def test_a_repeated_turn_is_stored_and_analysed_once_and_its_feedback_merged(
    collector, store, analyzer, events, published
):
    first = await collector.collect("t", "hello", "hi", "u", turn_id="x")
    again = await collector.collect("t", "other words", "hi", "u", turn_id="x")
    assert again == first
    later = await collector.collect("t", "hello", "hi", "u", {"response_quality": 0.9}, turn_id="x")
    assert later.response_quality == 0.9
    assert later.turn_id == "x"
    assert analyzer.texts == ["hello"]
    assert (await store.counts("t")).turns == 1
    await events.drain()
    assert [type(event) for event in published] == [TurnCollected, FeedbackAdded]


async def test_the_store_recognises_a_repeated_turn_after_a_restart(collector, store, analyzer, settings):
    first = await collector.collect("t", "hello", "hi", "u", turn_id="x")
    restarted = ConversationMetadataCollector(store, analyzer, settings)
    again = await restarted.collect("t", "bye", "hi", "u", {"satisfaction_score": 1}, turn_id="x")
    assert again.intent_detected == first.intent_detected == "greeting"
    assert again.user_satisfaction == 1
    with pytest.raises(InvalidInput, match="ends after the text, which has 5 characters"):
        await ConversationMetadataCollector(store, analyzer, settings).collect(
            "t", "a longer text", "hi", "u", {"corrected_entities": [[2, 8, "X"]]}, turn_id="x"
        )
    assert (await store.counts("t")).turns == 1


async def test_the_store_recognises_a_repeated_turn_beyond_the_recent_ones(
    store, analyzer, settings, monkeypatch
):
    monkeypatch.setattr("karen_learner.collection.collector.RECENT_TURNS", 2)
    collector = ConversationMetadataCollector(store, analyzer, settings)
    first = await collector.collect("t", "hello", "hi", "u", turn_id="a")
    for turn_id in "bcd":
        await collector.collect("t", "bye", "hi", "u", turn_id=turn_id)
    assert await collector.collect("t", "bye", "hi", "u", turn_id="a") == first
    assert analyzer.texts == ["hello", "bye", "bye", "bye", "bye"]  # the last repetition is analysed
    assert (await store.counts("t")).turns == 4


async def test_concurrent_repetitions_of_a_turn_are_stored_once(collector, store):
    answers = await asyncio.gather(
        *(collector.collect("t", "hello", "hi", "u", turn_id="x") for _ in range(10))
    )
    assert all(answer == answers[0] for answer in answers)
    assert (await store.counts("t")).turns == 1


async def test_the_same_turn_id_of_another_tenant_is_another_turn(collector, analyzer):
    await collector.collect("a", "hello", "hi", "u", turn_id="x")
    await collector.collect("b", "bye", "hi", "u", turn_id="x")
    assert analyzer.texts == ["hello", "bye"]


async def test_later_feedback_is_merged(collector, events, published):
    metadata = await collector.collect("t", "in Boston", "ok", "u")
    assert not metadata.feedback_provided
    later = await collector.add_feedback("t", metadata.turn_id, {"corrected_entities": [[3, 9, "CITY"]]})
    assert later.feedback_provided
    assert later.correction_needed
    await events.drain()
    added = published[-1]
    assert isinstance(added, FeedbackAdded)
    assert (added.tenant_id, added.turn_id, added.is_correction) == ("t", metadata.turn_id, True)


async def test_later_entities_of_a_browser_are_checked_with_the_stored_text(collector, store):
    metadata = await collector.collect("t", "\U0001f600 in Rome", "ok", "u")
    spans = [{"start": 6, "end": 10, "label": "CITY", "value": "Rome"}]
    with pytest.raises(InvalidInput, match="offsets count utf-16"):
        await collector.add_feedback("t", metadata.turn_id, {"corrected_entities": spans})
    feedback = {"corrected_entities": spans, "offsets": "utf-16"}
    await collector.add_feedback("t", metadata.turn_id, feedback)
    (span,) = (await store.get_turn("t", metadata.turn_id)).feedback.corrected_entities
    assert (span.start, span.end) == (5, 9)


async def test_unfit_feedback_changes_nothing(collector, store):
    metadata = await collector.collect("t", "in Boston", "ok", "u")
    for feedback in ({"corrected_entities": [[3, 10, "CITY"]]}, {"rating": 5}, None):
        with pytest.raises(InvalidInput):
            await collector.add_feedback("t", metadata.turn_id, feedback)
    with pytest.raises(InvalidInput):
        await collector.collect(
            "t", "much longer than the stored one", "ok", "u",
            {"corrected_entities": [[20, 26, "CITY"]]}, turn_id=metadata.turn_id,
        )  # fmt: skip
    assert (await store.get_turn("t", metadata.turn_id)).feedback is None


@pytest.mark.parametrize("feedback", [{"satisfaction_score": 1}, {"corrected_entities": [[0, 1, "X"]]}])
async def test_feedback_for_an_unknown_turn(collector, feedback):
    with pytest.raises(UnknownTurn):
        await collector.add_feedback("t", "nowhere", feedback)


async def test_refused_consent_stores_no_content(collector, store):
    metadata = await collector.collect("t", "my secret", "hush", "u", {"consent": False})
    turn = await store.get_turn("t", metadata.turn_id)
    assert (turn.user_text, turn.assistant_response) == (None, None)
    assert metadata.linguistic_features == {}
    later = await collector.add_feedback("t", metadata.turn_id, {"corrected_entities": [[0, 50, "X"]]})
    assert later.feedback_provided


async def test_the_fallback_replaces_a_failing_analyzer(collector, analyzer, events, published, caplog):
    analyzer.error = RuntimeError("the host is down")
    with caplog.at_level(logging.WARNING):
        answers = [await collector.collect("t", "hello", "hi", "u") for _ in range(3)]
    assert all(answer.degraded and answer.intent_detected is None for answer in answers)
    await events.drain()
    assert [event.degraded for event in published] == [True] * 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "RuntimeError" in caplog.text
    assert "the host is down" not in caplog.text  # may be words of a user

    analyzer.error = None
    with caplog.at_level(logging.WARNING):
        assert not (await collector.collect("t", "hello", "hi", "u")).degraded
    assert caplog.records[-1].getMessage() == "the analyzer answers again"


async def test_a_result_that_is_not_an_analysis_is_a_failure(collector, analyzer):
    analyzer.answer = {"intent": "hello"}
    assert (await collector.collect("t", "hello", "hi", "u")).degraded


async def test_the_error_of_a_closed_analyzer_is_raised(collector, analyzer):
    analyzer.error = LearnerClosed("closed")
    with pytest.raises(LearnerClosed):
        await collector.collect("t", "hello", "hi", "u")


async def test_the_text_is_sanitized_before_it_is_analysed(collector, analyzer):
    await collector.collect("t", "he\x00y", "hi", "u")
    assert analyzer.texts == ["he\ufffdy"]


async def test_the_sanitized_texts_are_analysed_and_stored(store, analyzer, settings):
    class Masker:
        def sanitize(self, text: str) -> str:
            return text.replace("4711", "####")

    collector = ConversationMetadataCollector(store, analyzer, settings, sanitizer=Masker())
    metadata = await collector.collect("t", "my pin is 4711", "not 4711?", "u")
    turn = await store.get_turn("t", metadata.turn_id)
    assert analyzer.texts == ["my pin is ####"]
    assert (turn.user_text, turn.assistant_response) == ("my pin is ####", "not ####?")


async def test_a_turn_from_a_file(collector, store):
    metadata = await collector.collect_input(
        "t", TurnInput(user_text="hello", assistant_response="hi", user_id="u", turn_id="x")
    )
    assert metadata.turn_id == "x"
    with pytest.raises(InvalidInput, match="belongs to the tenant 'other'"):
        await collector.collect_input(
            "t", TurnInput(user_text="hello", assistant_response="hi", user_id="u", tenant_id="other")
        )
