"""The turns of a conversation are heard in its mood, and stored with it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from karen_learner import create_autonomous_learner, create_spacy_analyzer
from karen_learner.analysis import RuleBasedFallback, SpacyAnalyzer
from karen_learner.collection import ConversationMetadataCollector
from karen_learner.collection.moods import Conversation, Conversations
from karen_learner.collection.turns import draft_turn
from karen_learner.components.moods import mood_after
from karen_learner.errors import InvalidInput, ModelError, StoreLocked
from karen_learner.memory import MemoryStore
from karen_learner.records import Analysis, ConversationMetadata, Mood
from karen_learner.settings import Settings
from tests.components.moody import trained_on_moods

SAYS = Analysis(intent=None, intent_confidence=0.0, sentiment="negative", sentiment_confidence=0.5)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moody")
    trained_on_moods().to_disk(folder)
    return folder


@pytest.fixture
async def analyzer(model_folder: Path, settings: Settings) -> AsyncIterator[SpacyAnalyzer]:
    async with create_spacy_analyzer(
        model_folder, tasks={"sentiment": "sentiment"}, settings=settings
    ) as analyzer:
        yield analyzer


@pytest.fixture
def collector(
    store: MemoryStore, analyzer: SpacyAnalyzer, settings: Settings
) -> ConversationMetadataCollector:
    return ConversationMetadataCollector(store, analyzer, settings)


async def collect(collector: ConversationMetadataCollector, text: str, **options) -> ConversationMetadata:
    return await collector.collect(options.pop("tenant", "t"), text, "I see", "u", **options)


async def mood_of(store: MemoryStore, metadata: ConversationMetadata) -> Mood:
    turn = await store.get_turn(metadata.tenant_id, metadata.turn_id)
    assert turn is not None
    return turn.mood


async def test_a_turn_is_heard_in_the_mood_of_those_before(collector, store) -> None:
    angry = await collect(collector, "that is terrible", conversation_id="angry")
    happy = await collect(collector, "that is wonderful", conversation_id="happy")
    assert (angry.sentiment_detected, happy.sentiment_detected) == ("negative", "positive")
    after_angry = await collect(collector, "okay", conversation_id="angry")
    after_happy = await collect(collector, "okay", conversation_id="happy")
    assert (after_angry.sentiment_detected, after_happy.sentiment_detected) == ("negative", "positive")
    assert await mood_of(store, angry) == {}
    mood = await mood_of(store, after_angry)
    assert mood == mood_after({}, "negative", angry.sentiment_confidence)
    assert collector.mood("t", "angry") == mood_after(mood, "negative", after_angry.sentiment_confidence)


async def test_other_conversations_and_tenants_have_moods_of_their_own(collector, store) -> None:
    await collect(collector, "that is terrible", conversation_id="c")
    for options in ({}, {"conversation_id": "d"}, {"conversation_id": "c", "tenant": "other"}):
        assert await mood_of(store, await collect(collector, "okay", **options)) == {}


async def test_turns_that_come_together_hear_each_other_in_order(collector, store) -> None:
    turns = await asyncio.gather(
        *(collect(collector, "that is terrible", conversation_id="c") for _ in range(4))
    )
    moods = [await mood_of(store, turn) for turn in turns]
    assert [len(mood) for mood in moods] == [0, 1, 1, 1]
    shares = [mood.get("negative", 0.0) for mood in moods]
    assert shares == sorted(set(shares))


async def test_a_turn_that_is_sent_again_counts_once(collector) -> None:
    await collect(collector, "that is terrible", conversation_id="c", turn_id="x")
    mood = collector.mood("t", "c")
    await collect(collector, "that is terrible", conversation_id="c", turn_id="x")
    assert collector.mood("t", "c") == mood


async def test_who_does_not_want_to_be_learned_from_leaves_no_trace(collector, store) -> None:
    refusal = {"consent": False}
    await collect(collector, "that is terrible", conversation_id="c", user_feedback=refusal)
    assert await mood_of(store, await collect(collector, "okay", conversation_id="c")) == {}
    last = await collect(collector, "that is terrible", conversation_id="c", user_feedback=refusal)
    assert await mood_of(store, last) == {}


async def test_consent_withdrawn_later_takes_the_mood(collector, store) -> None:
    await collect(collector, "that is terrible", conversation_id="c")
    turn = await collect(collector, "okay", conversation_id="c")
    assert await mood_of(store, turn)
    await collector.add_feedback("t", turn.turn_id, {"consent": False})
    assert await mood_of(store, turn) == {}


async def test_consent_withdrawn_later_leaves_no_trace_in_what_follows(collector) -> None:
    turn = await collect(collector, "that is terrible", conversation_id="c")
    await collect(collector, "that is wonderful", conversation_id="c", turn_id="x")
    assert set(collector.mood("t", "c")) == {"negative", "positive"}
    await collector.add_feedback("t", turn.turn_id, {"consent": False})
    assert set(collector.mood("t", "c")) == {"positive"}
    await collect(
        collector, "that is wonderful", conversation_id="c", turn_id="x", user_feedback={"consent": False}
    )
    assert collector.mood("t", "c") == {}


async def test_a_turn_that_was_not_stored_is_no_part_of_the_mood(collector, store, monkeypatch) -> None:
    async def fail(turn: object) -> None:
        raise StoreLocked("another process writes")

    monkeypatch.setattr(store, "add_turn", fail)
    for _ in range(2):
        with pytest.raises(StoreLocked):
            await collect(collector, "that is terrible", conversation_id="c", turn_id="x")
    assert collector.mood("t", "c") == {}


async def test_one_turn_of_many_callers_at_once_counts_once(collector) -> None:
    turns = await asyncio.gather(
        *(collect(collector, "that is terrible", conversation_id="c", turn_id="x") for _ in range(5))
    )
    assert collector.mood("t", "c") == mood_after({}, "negative", turns[0].sentiment_confidence)


async def test_a_turn_sent_again_without_consent_counts_no_more(collector, store) -> None:
    again = {"conversation_id": "c", "turn_id": "x"}
    await asyncio.gather(
        collect(collector, "that is terrible", **again),
        collect(collector, "that is terrible", user_feedback={"consent": False}, **again),
    )
    assert collector.mood("t", "c") == {}
    turn = await store.get_turn("t", "x")
    assert turn is not None
    assert (turn.user_text, turn.mood) == (None, {})


async def test_a_turn_is_no_part_of_the_mood_in_which_it_is_heard(collector, store, monkeypatch) -> None:
    heard = []
    analyze = SpacyAnalyzer.analyze

    async def listen(analyzer: SpacyAnalyzer, text: str, **context) -> Analysis:
        heard.append(context["mood"])
        return await analyze(analyzer, text, **context)

    monkeypatch.setattr(SpacyAnalyzer, "analyze", listen)
    again = {"conversation_id": "c", "turn_id": "x"}
    await asyncio.gather(*(collect(collector, "that is terrible", **again) for _ in range(2)))
    assert heard == [{}, {}]


class Deaf(SpacyAnalyzer):
    hears_moods = False


async def test_an_analyzer_may_choose_not_to_hear_moods(store, settings, analyzer, model_folder) -> None:
    deaf = Deaf(settings=settings, models=analyzer.models, base=await analyzer.base_model())
    collector = ConversationMetadataCollector(store, deaf, settings)
    for _ in range(2):
        turn = await collect(collector, "that is terrible", conversation_id="c")
        assert (turn.degraded, await mood_of(store, turn)) == (False, {})


async def test_turns_with_spans_keep_their_place(collector, store) -> None:
    spans = {"corrected_entities": [{"start": 0, "end": 4, "label": "X"}]}
    first, second = await asyncio.gather(
        collect(collector, "that is terrible", conversation_id="c", turn_id="x", user_feedback=spans),
        collect(collector, "that is terrible", conversation_id="c"),
    )
    assert await mood_of(store, first) == {}
    assert await mood_of(store, second)


class Failing(SpacyAnalyzer):
    async def analyze(self, text: str, **_: object) -> Analysis:
        raise ModelError(f"cannot read {text}")


async def test_what_rules_say_is_no_mood(store, settings, analyzer) -> None:
    failing = Failing(settings=settings, models=analyzer.models)
    collector = ConversationMetadataCollector(store, failing, settings)
    turn = await collect(collector, "that is terrible", conversation_id="c")
    assert (turn.degraded, turn.sentiment_detected) == (True, "negative")
    assert collector.mood("t", "c") == {}


class HostsOwn:
    """It knows no moods: neither may the turns that it analysed."""

    async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
        return RuleBasedFallback().analyze(text).model_copy(update={"degraded": False})

    async def on_deployed(self, version: str, path: object) -> None: ...


async def test_a_hosts_analyzer_is_not_told_of_moods(store, settings) -> None:
    collector = ConversationMetadataCollector(store, HostsOwn(), settings)
    for _ in range(2):
        turn = await collect(collector, "that is terrible", conversation_id="c")
        assert await mood_of(store, turn) == {}


async def test_the_learner_analyzes_what_comes_next_in_a_conversation(model_folder, tmp_path) -> None:
    analyzer = create_spacy_analyzer(model_folder, tasks={"sentiment": "sentiment"})
    async with create_autonomous_learner(home=tmp_path, spacy_analyzer=analyzer) as learner:
        for text in ("that is terrible", "that is terrible"):
            await learner.collect_conversation_metadata("t", text, "", "u", conversation_id="angry")
        await learner.collect_conversation_metadata(
            "t", "that is wonderful", "", "u", conversation_id="happy"
        )
        found = [
            (await learner.analyze("t", "okay", conversation_id=conversation)).sentiment
            for conversation in ("angry", "happy", "angry")
        ]
        assert found == ["negative", "positive", "negative"]
        alone = await learner.analyze("t", "okay")
        assert alone == await learner.analyze("t", "okay", conversation_id="never heard of")
        with pytest.raises(InvalidInput, match="conversation_id"):
            await learner.analyze("t", "okay", conversation_id="")


async def test_conversations_that_rest_are_forgotten(settings: Settings) -> None:
    conversations = Conversations(limit=2)

    async def hear(name: str | None, turn_id: str) -> None:
        draft = draft_turn("t", "hi", "", "u", limits=settings.analysis, conversation_id=name)
        async with conversations.turn_of(draft) as conversation:
            conversation.hear(turn_id, SAYS)

    for number, name in enumerate(("a", "b", "a", "c", None)):
        await hear(name, f"t{number}")
    found = {name: conversations.find("t", name) for name in "abc"}
    assert found["b"] is None
    assert found["a"] is not None
    assert found["a"].mood() == mood_after(mood_after({}, "negative", 0.5), "negative", 0.5)


def test_a_turn_counts_once_until_it_is_forgotten() -> None:
    conversation = Conversation()
    for _ in range(3):
        conversation.hear("x", SAYS)
    assert conversation.mood() == mood_after({}, "negative", 0.5)
    conversation.hear("y", SAYS.model_copy(update={"sentiment": "positive"}))
    conversation.forget("x")
    assert conversation.mood() == mood_after({}, "positive", 0.5)
    conversation.forget("never heard")
    for number in range(100):
        conversation.hear(str(number), SAYS)
    assert conversation.mood() == pytest.approx({"negative": 0.5}, abs=0.01)
