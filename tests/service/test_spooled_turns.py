"""Turns that are acknowledged before their analysis: `Prefer: respond-async`."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from karen_learner.learner import AutonomousLearner
from karen_learner.memory.spool import Spool
from karen_learner.service import create_app
from tests.conftest import ACME, MakeLearner
from tests.service.conftest import BASE_URL, running
from tests.service.test_serving import PATIENCE_S, served

URL = f"/v1/tenants/{ACME}"
ASYNC = {"Prefer": "handling=lenient, Respond-Async; wait=10"}


def turn(turn_id: str | None = None, **more: Any) -> dict[str, Any]:
    given = {"user_text": "what is my balance", "assistant_response": "", "user_id": "u"}
    return {**given, "turn_id": turn_id, **more}


class HeldLearner:
    """Stores turns and feedback only after `go` is set."""

    def __init__(self, learner: AutonomousLearner) -> None:
        self._learner = learner
        self.go = asyncio.Event()

    async def collect_conversation_metadata(self, *values: Any, **named: Any) -> Any:
        await self.go.wait()
        return await self._learner.collect_conversation_metadata(*values, **named)

    async def add_feedback(self, *values: Any, **named: Any) -> Any:
        await self.go.wait()
        return await self._learner.add_feedback(*values, **named)


@pytest.fixture
def held(app: FastAPI) -> HeldLearner:
    parts = app.state.parts
    parts.collection._learner = HeldLearner(parts.learner)
    return parts.collection._learner


async def test_a_batch_is_acknowledged_before_it_is_stored(
    app: FastAPI, client: httpx.AsyncClient, held: HeldLearner
):
    rated = {"user_feedback": {"satisfaction_score": 1.0}}
    turns = [turn("t1", **rated), turn(), turn("t2", user_text=" ")]
    answer = await client.post(f"{URL}/turns/batch", json={"turns": turns}, headers=ASYNC)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    found = answer.json()
    assert found["spooled"] == 2
    assert found["turns"][0] == {"turn_id": "t1"}
    assert found["turns"][2]["problem"]["status"] == 400
    assert (await client.get(f"{URL}/turns/t1")).status_code == 404
    held.go.set()
    await app.state.parts.collection.drain()
    for one in found["turns"][:2]:
        stored = (await client.get(f"{URL}/turns/{one['turn_id']}")).json()
        assert stored["metadata"]["intent_detected"] == "balance"
    assert (await client.get(f"{URL}/turns/t1")).json()["feedback"]["satisfaction_score"] == 1.0


async def test_feedback_waits_behind_its_turn_and_may_withdraw_consent(
    app: FastAPI, client: httpx.AsyncClient, held: HeldLearner
):
    await client.post(f"{URL}/turns/batch", json={"turns": [turn("t1")]}, headers=ASYNC)
    given = await client.post(f"{URL}/turns/t1/feedback", json={"consent": False})
    assert (given.status_code, given.json()) == (202, {"turn_id": "t1"})
    spans = {"corrected_entities": [{"start": 0, "end": 99, "label": "X"}]}
    assert (await client.post(f"{URL}/turns/t1/feedback", json=spans)).status_code == 400
    assert (await client.post(f"{URL}/turns/t2/feedback", json={"consent": False})).status_code == 404
    held.go.set()
    await app.state.parts.collection.drain()
    assert (await client.get(f"{URL}/turns/t1")).json()["user_text"] is None


async def test_a_full_spool_takes_no_turn_of_a_batch(
    app: FastAPI, client: httpx.AsyncClient, held: HeldLearner, tmp_path
):
    parts = app.state.parts
    await parts.collection.spool.close()
    parts.collection.spool = Spool(tmp_path / "small", max_entries=2)
    await parts.collection.spool.open()
    for count, status in ((1, 202), (2, 503), (1, 202), (1, 503)):
        turns = {"turns": [turn() for _ in range(count)]}
        answer = await client.post(f"{URL}/turns/batch", json=turns, headers=ASYNC)
        assert answer.status_code == status
        assert ("retry-after" in answer.headers) == (status == 503)
    assert parts.collection.spool.waiting == 2


async def test_acknowledged_turns_survive_the_kill_of_the_service(taught_home, make_learner: MakeLearner):
    with served(taught_home) as (process, address):
        turns = [turn(f"t{number}") for number in range(300)]
        answer = httpx.post(
            f"{address}{URL}/turns/batch", json={"turns": turns}, headers=ASYNC, timeout=PATIENCE_S
        )
        process.kill()
        process.wait()
    assert answer.json()["spooled"] == len(turns)
    async with running(create_app(make_learner())) as app:
        await app.state.parts.collection.drain()
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
            assert (await client.get(URL)).json()["counts"]["turns"] == len(turns)
