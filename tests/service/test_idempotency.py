"""A repeated request with an idempotency key gets the first answer, and changes nothing."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import FastAPI

from tests.conftest import ACME
from tests.service.test_routes import ACME_URL, ended, problem

KEY = {"Idempotency-Key": "k1"}
GOLD = [{"text": f"cancel my order {number}", "intent": "cancel"} for number in range(12)]


async def test_a_repeated_change_is_made_once(client, make_client):
    body = {"examples": GOLD}
    first = await client.post(f"{ACME_URL}/bootstrap", json=body, headers=KEY)
    again = await client.post(f"{ACME_URL}/bootstrap", json=body, headers=KEY)
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    await ended(client, first.json())
    assert len((await client.get(f"{ACME_URL}/versions")).json()) == 2
    other = await client.post(f"{ACME_URL}/cycles", json={}, headers=KEY)
    assert "another request" in str(problem(other, 422)["detail"])
    operator = await make_client("operator")
    theirs = await operator.post(f"{ACME_URL}/cycles", json={}, headers=KEY)
    assert theirs.status_code == 202
    await ended(operator, theirs.json())


async def test_another_query_is_another_request(client):
    url = f"{ACME_URL}/decisions"
    first = await client.delete(url, params={"user_id": "a"}, headers=KEY)
    again = await client.delete(url, params={"user_id": "a"}, headers=KEY)
    assert (first.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    problem(await client.delete(url, params={"user_id": "b"}, headers=KEY), 422)


async def test_concurrent_repetitions_run_once(client, app: FastAPI):
    body = {"version": None, "reason": "twice"}
    answers = await asyncio.gather(
        *(client.post(f"{ACME_URL}/cycles", json={"reason": "r"}, headers=KEY) for _ in range(5))
    )
    jobs = {answer.json()["job_id"] for answer in answers if answer.status_code == 202}
    assert len(jobs) == 1
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert body["version"] is None
    await app.state.parts.jobs.wait()


async def test_errors_of_the_service_are_not_kept(client, app: FastAPI, monkeypatch):
    async def fail(*_arguments, **_more):
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(app.state.parts.learner, "note_version", fail)
        assert (await client.patch(f"{ACME_URL}/versions/v0001", json={}, headers=KEY)).status_code == 500
    assert (await client.patch(f"{ACME_URL}/versions/v0001", json={}, headers=KEY)).status_code == 200


async def test_refusals_of_a_value_are_kept(client):
    for _ in range(2):
        problem(await client.post(f"{ACME_URL}/rollback", json={"version": "v0099"}, headers=KEY), 404)


@pytest.mark.parametrize("key", ["", "k" * 1_001])
async def test_unusable_keys_are_refused(client, key):
    problem(await client.post(f"{ACME_URL}/cycles", json={}, headers={"Idempotency-Key": key}), 422)


async def test_keys_of_tenants_are_their_own(client):
    gold = {"examples": GOLD[:2]}
    first = await client.post(f"{ACME_URL}/bootstrap", json=gold, headers=KEY)
    second = await client.post("/v1/tenants/other/bootstrap", json=gold, headers=KEY)
    assert (first.json()["tenant_id"], second.json()["tenant_id"]) == (ACME, "other")
