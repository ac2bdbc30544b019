"""Replies of an LLM, of spaCy and of rules, their deadlines, and their outcomes."""

from __future__ import annotations

import asyncio

import pytest

from karen_learner import blocking
from karen_learner.errors import InvalidInput, LearnerClosed, UnknownTurn
from karen_learner.orchestrator import Orchestrator
from karen_learner.orchestrator.replies import NO_ANSWER, Prompt, context_of
from karen_learner.records import Analysis, Entity
from tests.conftest import ACME

TEXT = "what is my balance red"
ANSWERS = {"balance": "Your balance is under Account.", "": "Tell me more."}


async def fail(_prompt):
    raise ConnectionError("the words of a user")


async def wait(_prompt):
    await asyncio.Event().wait()


async def hang(_prompt):
    """Ignores its cancellation."""
    released = asyncio.Event()
    asyncio.get_running_loop().call_later(3.0, released.set)
    while not released.is_set():
        try:
            await released.wait()
        except asyncio.CancelledError:
            continue
    return "late"


async def cancel_itself(_prompt):
    raise asyncio.CancelledError


def returns(value):
    async def answer(_prompt):
        return value

    return answer


async def attempts(orchestrator: Orchestrator) -> list[tuple[str, str, bool, str | None]]:
    """The stored outcomes of the steps: domain, strategy, success, error."""
    from datetime import timedelta

    from karen_learner.records import utc_now

    await orchestrator.outcomes.close()
    found = await orchestrator.learner.store.newest_outcomes(
        ACME, since=utc_now() - timedelta(hours=1), limit=100
    )
    return [
        (one.domain, one.strategy, one.success, one.error_type) for one in found if one.source == "attempt"
    ]


async def test_the_llm_answers_with_the_analysis_as_context(make_orchestrator):
    prompts = []

    async def llm(prompt: Prompt) -> str:
        prompts.append(prompt)
        return "12 euros"

    orchestrator = await make_orchestrator(llm)
    reply = await orchestrator.reply(ACME, TEXT, user_id="ann", turn_id="t1", conversation_id="c1")
    assert (reply.text, reply.source, reply.turn_id, reply.spooled) == ("12 euros", "llm", "t1", True)
    (prompt,) = prompts
    assert prompt.user_text == TEXT
    assert "intent: balance" in prompt.context
    assert prompt.messages[1] == {"role": "user", "content": TEXT}
    await orchestrator.collection.drain()
    turn = await orchestrator.learner.store.get_turn(ACME, "t1")
    assert (turn.user_text, turn.assistant_response, turn.metadata.user_id) == (TEXT, "12 euros", "ann")
    assert await attempts(orchestrator) == [
        ("analysis", "spacy", True, None),
        ("answering", "llm", True, None),
    ]


async def test_a_turn_is_stored_with_the_analysis_of_its_reply(make_orchestrator, monkeypatch):
    orchestrator = await make_orchestrator()
    analyze, analysed = orchestrator.learner.analyzer.analyze, []

    async def counted(text, **more):
        analysed.append(text)
        return await analyze(text, **more)

    monkeypatch.setattr(orchestrator.learner.analyzer, "analyze", counted)
    reply = await orchestrator.reply(ACME, TEXT, user_id="ann", turn_id="t1")
    await orchestrator.collection.drain()
    turn = await orchestrator.learner.store.get_turn(ACME, "t1")
    assert analysed == [TEXT]
    assert turn.metadata.intent_detected == reply.analysis.intent == "balance"
    assert turn.metadata.model_version == reply.analysis.model_version


@pytest.mark.parametrize(
    ("llm", "error"),
    [
        (fail, "ConnectionError"),
        (cancel_itself, "RuntimeError"),
        (returns(None), "InvalidInput"),
        (returns(" \n"), "InvalidInput"),
        (returns(b"bytes"), "InvalidInput"),
        (lambda _: "not awaitable", "TypeError"),
    ],
)
async def test_spacy_answers_if_the_llm_fails(make_orchestrator, llm, error, caplog):
    orchestrator = await make_orchestrator(llm, answers=ANSWERS)
    reply = await orchestrator.reply(ACME, TEXT, user_id="ann")
    assert (reply.text, reply.source, reply.error) == (ANSWERS["balance"], "spacy", error)
    assert await attempts(orchestrator) == [
        ("analysis", "spacy", True, None),
        ("answering", "llm", False, error),
        ("answering", "spacy", True, None),
    ]
    assert "words of a user" not in caplog.text


@pytest.mark.parametrize("llm", [wait, hang])
async def test_a_slow_llm_does_not_delay_the_reply(make_orchestrator, llm):
    orchestrator = await make_orchestrator(llm, answers=ANSWERS)
    await orchestrator.learner.analyze(ACME, TEXT)  # loads the model
    reply = await orchestrator.reply(ACME, TEXT, user_id="ann", deadline_s=1.0)
    assert (reply.source in ("spacy", "rules"), reply.error) == (True, "TimeoutError")


async def test_rules_answer_if_spacy_fails(make_orchestrator, monkeypatch):
    orchestrator = await make_orchestrator(fail, answers={"question": "A good question.", "": "?"})

    async def broken(tenant_id, text, *, user_id):
        raise RuntimeError("no model")

    monkeypatch.setattr(orchestrator.learner, "analyze", broken)
    reply = await orchestrator.reply(ACME, "where is my bill?", user_id="ann")
    assert (reply.text, reply.source) == ("A good question.", "rules")
    assert reply.analysis.degraded
    assert await attempts(orchestrator) == [
        ("analysis", "spacy", False, "RuntimeError"),
        ("analysis", "rules", True, None),
        ("answering", "llm", False, "ConnectionError"),
        ("answering", "rules", True, None),
    ]


async def test_a_tenant_without_a_model_is_answered(make_orchestrator):
    orchestrator = await make_orchestrator(fail)
    reply = await orchestrator.reply("new-tenant", "hello", user_id="ann")
    assert (reply.text, reply.source) == (NO_ANSWER, "rules")


async def test_a_failing_function_of_answers_is_replaced(make_orchestrator, caplog):
    def broken(analysis):
        raise KeyError("words" + " of a user")

    orchestrator = await make_orchestrator(fail, answers=broken)
    assert (await orchestrator.reply(ACME, TEXT, user_id="ann")).text == NO_ANSWER
    assert "the prepared answers failed: KeyError" in caplog.text
    assert "words of a user" not in caplog.text


async def test_an_open_breaker_skips_the_llm(make_orchestrator):
    calls = []

    async def counted(prompt):
        calls.append(prompt)
        raise ConnectionError

    orchestrator = await make_orchestrator(counted, answers=ANSWERS)
    errors = [(await orchestrator.reply(ACME, TEXT, user_id="ann")).error for _ in range(5)]
    assert errors == ["ConnectionError"] * 3 + ["not_called"] * 2
    assert len(calls) == 3


async def test_the_time_limit_of_the_llm_is_learned(make_orchestrator):
    orchestrator = await make_orchestrator(wait, answers=ANSWERS)
    for _ in range(40):
        orchestrator.record_llm(ACME, seconds=0.02)
    assert orchestrator.outcomes.timeout_s(ACME, "answering", "llm") == 1.0  # the lower bound of the settings
    reply = await orchestrator.reply(ACME, TEXT, user_id="ann")
    assert reply.error == "TimeoutError"


async def test_a_rating_is_an_outcome_of_its_strategy(make_orchestrator):
    orchestrator = await make_orchestrator()
    good, bad = [await orchestrator.reply(ACME, TEXT, user_id=user) for user in ("ann", "bob")]
    assert await orchestrator.feedback(ACME, good.turn_id, {"satisfaction_score": 0.9})
    assert await orchestrator.feedback(
        ACME, bad.turn_id, {"satisfaction_score": 0.1, "corrected_intent": "travel"}
    )
    await orchestrator.collection.drain()
    turn = await orchestrator.learner.store.get_turn(ACME, bad.turn_id)
    assert turn.feedback.corrected_intent == "travel"
    rated = [one for one in await attempts(orchestrator) if one[0] == "rated_replies"]
    assert rated == [("rated_replies", "llm", True, None), ("rated_replies", "llm", False, None)]


@pytest.mark.parametrize(
    "feedback",
    [{"satisfaction": 1}, None, {"corrected_entities": [{"start": 0, "end": 999, "label": "CITY"}]}],
)
async def test_unusable_feedback_is_refused_at_once(make_orchestrator, feedback):
    orchestrator = await make_orchestrator()
    reply = await orchestrator.reply(ACME, TEXT, user_id="ann")
    with pytest.raises(InvalidInput):
        await orchestrator.feedback(ACME, reply.turn_id, feedback)


async def test_feedback_on_a_stored_turn_of_another_process(make_orchestrator):
    orchestrator = await make_orchestrator()
    await orchestrator.learner.collect_conversation_metadata(ACME, TEXT, "", "ann", turn_id="elsewhere")
    assert await orchestrator.feedback(ACME, "elsewhere", {"satisfaction_score": 1.0})
    with pytest.raises(UnknownTurn):
        await orchestrator.feedback(ACME, "never", {"satisfaction_score": 1.0})
    with pytest.raises(UnknownTurn):
        await orchestrator.feedback("other", "elsewhere", {"satisfaction_score": 1.0})


@pytest.mark.parametrize(
    "arguments",
    [{"user_text": "  "}, {"user_text": 7}, {"user_id": ""}, {"tenant_id": ""}, {"deadline_s": 0}],
)
async def test_unusable_messages_are_refused_before_the_llm(make_orchestrator, arguments):
    called = []
    orchestrator = await make_orchestrator(called.append)
    with pytest.raises(InvalidInput):
        await orchestrator.reply(**{"tenant_id": ACME, "user_text": TEXT, "user_id": "ann", **arguments})
    assert not called
    assert orchestrator.collection.spool.waiting == 0


async def test_long_and_broken_answers_are_stored_as_far_as_they_fit(make_orchestrator):
    orchestrator = await make_orchestrator(returns("\ud800" + "a" * 2_000_000))
    reply = await orchestrator.reply(ACME, TEXT, user_id="ann")
    assert len(reply.text) == 2_000_001
    await orchestrator.collection.drain()
    limit = orchestrator.learner.settings.analysis.max_response_chars
    turn = await orchestrator.learner.store.get_turn(ACME, reply.turn_id)
    assert len(turn.assistant_response) == limit


async def test_a_closed_orchestrator_refuses_messages(make_orchestrator):
    orchestrator = await make_orchestrator()
    reply = await orchestrator.reply(ACME, TEXT, user_id="ann")
    await orchestrator.close()
    await orchestrator.close()
    assert await orchestrator.learner.store.get_turn(ACME, reply.turn_id) is not None
    assert not list((orchestrator.learner.layout.home / "spool").glob("*"))
    with pytest.raises(LearnerClosed):
        await orchestrator.reply(ACME, TEXT, user_id="ann")


async def test_a_cancelled_reply_cancels_the_llm(make_orchestrator):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def llm(_prompt):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    orchestrator = await make_orchestrator(llm)
    task = asyncio.create_task(orchestrator.reply(ACME, TEXT, user_id="ann"))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    await ended.wait()
    assert task.cancelled()


def test_the_context_names_all_parts_of_an_analysis():
    analysis = Analysis(
        intent="balance", intent_confidence=0.914, out_of_scope=True, sentiment="negative",
        sentiment_confidence=0.5, entities=(Entity(start=0, end=4, label="CITY", text="Rome"),),
    )  # fmt: skip
    text = context_of(analysis)
    for part in ("intent: balance (91%)", "sentiment: negative (50%)", "Rome (CITY)", "no known intent"):
        assert part in text


def test_the_synchronous_twin_replies_and_collects(tmp_path):
    with blocking.create_autonomous_learner(tmp_path) as learner:
        with blocking.Orchestrator(learner, lambda prompt: f"answer to {prompt.user_text}") as orchestrator:
            reply = orchestrator.reply(ACME, TEXT, user_id="ann", turn_id="t1", deadline_s=60.0)
            assert (reply.text, reply.source) == (f"answer to {TEXT}", "llm")
            orchestrator.feedback(ACME, "t1", {"satisfaction_score": 1.0})
        turn = learner.portal.call(learner.learner.store.get_turn, ACME, "t1")
        assert turn.feedback.satisfaction_score == 1.0
