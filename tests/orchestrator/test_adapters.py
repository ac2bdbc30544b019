"""Adapters for LangChain, Rasa and FastAPI."""

from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from karen_learner.errors import LearnerClosed
from karen_learner.orchestrator import Orchestrator, Reply
from karen_learner.orchestrator.langchain import LangChainCallback, as_language_model
from karen_learner.orchestrator.rasa import RasaEventBroker
from karen_learner.orchestrator.web import OrchestratorDependency
from tests.conftest import ACME, TINY

TEXT = "what is my balance red"


async def stored(orchestrator: Orchestrator):
    await orchestrator.collection.drain()
    return await orchestrator.learner.store.newest_turns(ACME, limit=20)


async def test_a_chain_of_langchain_is_the_llm(make_orchestrator):
    orchestrator = await make_orchestrator(as_language_model(FakeListChatModel(responses=["12 euros"])))
    assert (await orchestrator.reply(ACME, TEXT, user_id="ann")).text == "12 euros"
    parts = RunnableLambda(lambda _: AIMessage(content=[{"type": "text", "text": "in parts"}]))
    orchestrator = await make_orchestrator(as_language_model(parts))
    assert (await orchestrator.reply(ACME, TEXT, user_id="ann")).text == "in parts"


async def test_calls_of_a_chain_are_collected(make_orchestrator):
    orchestrator = await make_orchestrator()
    callback = LangChainCallback(orchestrator, tenant_id=ACME)
    config = {
        "callbacks": [callback],
        "metadata": {"user_id": "ann", "conversation_id": "c1", "turn_id": "t1"},
    }
    model = FakeListChatModel(responses=["12 euros", "again", "unknown user"])
    await model.ainvoke([("system", "be short"), ("human", TEXT)], config)
    await model.ainvoke(TEXT, config | {"metadata": {"user_id": "bob"}})
    await model.ainvoke(TEXT, {"callbacks": [callback]})
    turns = await stored(orchestrator)
    assert [(one.user_text, one.assistant_response, one.metadata.user_id) for one in turns] == [
        (TEXT, "12 euros", "ann"),
        (TEXT, "again", "bob"),
    ]
    assert (turns[0].turn_id, turns[0].metadata.conversation_id) == ("t1", "c1")
    await orchestrator.feedback(ACME, "t1", {"satisfaction_score": 1.0})
    assert (await stored(orchestrator))[0].feedback.satisfaction_score == 1.0


async def test_failures_of_a_chain_are_outcomes(make_orchestrator):
    class Failing(FakeListChatModel):
        async def _acall(self, *_args, **_more):
            raise ConnectionError

        def _call(self, *_args, **_more):
            raise ConnectionError

    orchestrator = await make_orchestrator()
    config = {
        "callbacks": [LangChainCallback(orchestrator)],
        "metadata": {"user_id": "ann", "tenant_id": ACME},
    }
    with pytest.raises(ConnectionError):
        await Failing(responses=["x"]).ainvoke(TEXT, config)
    (estimate,) = orchestrator.outcomes._system(ACME).strategies("answering")
    assert (estimate.strategy, estimate.failures >= 0.9) == ("llm", True)
    assert await stored(orchestrator) == []


def user(sender, text, number, **more):
    return {"event": "user", "sender_id": sender, "text": text, "timestamp": 1.7e9 + number,
            "message_id": f"m{number}", **more}  # fmt: skip


def bot(sender, text):
    return {"event": "bot", "sender_id": sender, "text": text, "timestamp": 1.7e9}


def listen(sender):
    return {"event": "action", "sender_id": sender, "name": "action_listen", "timestamp": 1.7e9}


async def test_events_of_rasa_become_turns(taught_home):
    config = SimpleNamespace(kwargs={"home": str(taught_home), "tenant_id": ACME})
    broker = await RasaEventBroker.from_endpoint_config(config)
    assert broker.is_ready()
    for event in (
        listen("ann"),
        user("ann", TEXT, 1),
        user("bob", "good morning", 2),
        bot("ann", "12 euros"),
        bot("bob", "hello"),
        bot("ann", "Anything else?"),
        {"event": "slot", "sender_id": "ann", "name": "x", "value": 1, "timestamp": 1.0},
        listen("ann"),
        bot("ann", "a reminder later"),
        user("ann", "/restart", 3),
        user("ann", TEXT, 1),
        user("bob", "bye", 4),
        {"event": "user"},
        user("eve", "no time", 5, timestamp="never"),
        user("eve", 7, 6),
    ):
        broker.publish(event)
    assert broker.ignored == 3
    await broker.close()
    async with Orchestrator(_learner(taught_home), _silent) as orchestrator:
        turns = await stored(orchestrator)
        await orchestrator.learner.close()
    assert {(one.turn_id, one.user_text, one.assistant_response) for one in turns} == {
        ("rasa:ann:m1", TEXT, "12 euros\nAnything else?"),
        ("rasa:bob:m2", "good morning", "hello"),
        ("rasa:bob:m4", "bye", ""),
    }
    assert turns[0].metadata.conversation_id == turns[0].metadata.user_id


async def _silent(_prompt):
    return "-"


def _learner(home):
    from karen_learner.learner import AutonomousLearner

    return AutonomousLearner(home, overrides=TINY)


async def test_the_dependency_of_fastapi(make_orchestrator):
    started: list[Orchestrator] = []

    @asynccontextmanager
    async def make():
        started.append(await make_orchestrator())
        yield started[0]

    chat = OrchestratorDependency(make)
    app = FastAPI(lifespan=chat.lifespan)

    @app.post("/chat")
    async def answer(text: str, orchestrator: Annotated[Orchestrator, Depends(chat)]) -> Reply:
        return await orchestrator.reply(ACME, text, user_id="ann")

    with pytest.raises(LearnerClosed, match="lifespan"):
        await chat()
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            found = (await client.post("/chat", params={"text": TEXT})).json()
    assert found["source"] == "llm"
    assert found["analysis"]["intent"] == "balance"
    with pytest.raises(LearnerClosed):
        await chat()
