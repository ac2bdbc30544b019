"""Large bodies do not hold up the event loop."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest

from karen_learner.service import large_bodies
from karen_learner.service.large_bodies import LARGE_BYTES, gather_in_steps
from tests.conftest import ACME

URL = f"/v1/tenants/{ACME}/decisions"
JSON = {"content-type": "application/json"}


async def test_a_large_body_is_parsed_in_another_thread(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    parse, threads = large_bodies._parse, []

    def recorded(body: bytes) -> object:
        threads.append(threading.get_ident())
        return parse(body)

    monkeypatch.setattr(large_bodies, "_parse", recorded)
    entry = {"log_type": "x", "session_id": "s" * 900, "decision_reasoning": {"method_used": "m"}}
    many = [entry] * (LARGE_BYTES // 900 + 1)
    for entries, parsed in (([entry], 0), (many, 1)):
        answer = await client.post(URL, json={"decisions": entries})
        assert (answer.json()["stored"], len(threads)) == (len(entries), parsed)
    assert threads[0] != threading.get_ident()


@pytest.mark.parametrize("size", [1, LARGE_BYTES])
async def test_a_body_that_is_no_json_is_refused(client: httpx.AsyncClient, size: int):
    for body in (b"[" * size, b"\xff" * size):
        answer = await client.post(URL, content=body, headers=JSON)
        assert answer.status_code in (400, 422)


async def test_other_tasks_run_while_many_items_begin():
    begun: list[int] = []

    async def item(number: int) -> int:
        begun.append(number)
        return number

    async def begun_by_now() -> int:
        return len(begun)

    other = asyncio.create_task(begun_by_now())
    assert await gather_in_steps(item(number) for number in range(1_000)) == list(range(1_000))
    assert await other < 1_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("turns", {f"key {number}": 1 for number in range(5_000)}),
        ("turns", {f"key {number}": 1 for number in range(20_000)}),
        ("turns/batch", {"turns": [{f"key {number}": 1 for number in range(200)}] * 50}),
        ("turns/t/feedback", {f"key {number}": 1 for number in range(5_000)}),
        ("analyze", {"texts": [1] * 1_000}),
    ],
)
async def test_the_answer_to_a_body_with_many_errors_is_short(
    client: httpx.AsyncClient, path: str, body: dict[str, object]
):
    answer = await client.post(f"/v1/tenants/{ACME}/{path}", json=body)
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]
    assert len(answer.content) < 20_000
