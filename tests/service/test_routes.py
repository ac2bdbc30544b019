"""Each route does what the learner does, and errors are problem details."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from fastapi import FastAPI

from karen_learner.records import utc_now
from karen_learner.service import create_app
from karen_learner.service.jobs import SILENCE
from karen_learner.service.middleware import HEADERS, BodyLimits
from tests.conftest import ACME, gold_examples
from tests.service.conftest import BASE_URL, running

TURN = {"user_text": "what is my balance red", "assistant_response": "12", "user_id": "ann"}
ACME_URL = f"/v1/tenants/{ACME}"


def problem(response: httpx.Response, status: int) -> dict[str, object]:
    """The problem of a response, after checks that all problems share."""
    found = response.json()
    assert response.status_code == status == found["status"], found
    assert response.headers["content-type"] == "application/problem+json"
    assert found["type"].startswith("urn:karen-learner:problem:")
    return dict(found)


async def ended(client: httpx.AsyncClient, job: dict[str, object]) -> dict[str, object]:
    while job["state"] == "running":
        await asyncio.sleep(0.05)
        job = (await client.get(f"{ACME_URL}/jobs/{job['job_id']}")).json()
    return job


async def test_analyses_of_several_texts(client):
    response = await client.post(
        f"{ACME_URL}/analyze", json={"texts": ["what is my balance", "good morning"]}
    )
    assert [found["intent"] for found in response.json()] == ["balance", "greeting"]
    assert HEADERS.items() <= dict(response.headers).items()


async def test_a_turn_is_stored_once_for_one_idempotency_key(client):
    first, second = [
        await client.post(f"{ACME_URL}/turns", json=TURN, headers={"Idempotency-Key": "request-1"})
        for _ in range(2)
    ]
    assert first.status_code == second.status_code == 201
    assert first.json()["turn_id"] == second.json()["turn_id"] == "request-1"
    assert (await client.get(ACME_URL)).json()["counts"]["turns"] == 1


async def test_a_batch_tells_the_problem_of_each_turn(client):
    body = {"turns": [TURN, {**TURN, "user_text": "  "}, {**TURN, "user_feedback": {"corrected_intent": 7}}]}
    found = (await client.post(f"{ACME_URL}/turns/batch", json=body)).json()
    assert found["stored"] == 1
    assert found["turns"][0]["intent"] == "balance"
    assert [turn["problem"]["status"] for turn in found["turns"][1:]] == [400, 400]


async def test_feedback_and_withdrawn_consent(client):
    turn_id = (await client.post(f"{ACME_URL}/turns", json=TURN)).json()["turn_id"]
    url = f"{ACME_URL}/turns/{turn_id}"
    await client.post(f"{url}/feedback", json={"satisfaction_score": 0.9})
    assert (await client.get(url)).json()["feedback"]["satisfaction_score"] == 0.9
    await client.post(f"{url}/feedback", json={"consent": False})
    assert TURN["user_text"] not in (await client.get(url)).text
    problem(await client.post(f"{ACME_URL}/turns/unknown/feedback", json={}), 404)


async def test_a_cycle_is_a_job(client):
    gold = [{"text": f"cancel my order {number}", "intent": "cancel"} for number in range(12)]
    response = await client.post(f"{ACME_URL}/bootstrap", json={"examples": gold})
    assert response.status_code == 202
    job = await ended(client, response.json())
    assert job["state"] == "finished"
    assert response.headers["location"].endswith(f"{ACME_URL}/jobs/{job['job_id']}")
    assert job["result"]["status"] == "deployed"
    cycles = (await client.get(f"{ACME_URL}/cycles")).json()
    assert cycles[-1]["cycle_id"] == job["result"]["cycle_id"]
    again = await ended(client, (await client.post(f"{ACME_URL}/cycles", json={})).json())
    assert again["result"]["status"] == "skipped"
    one = await client.get(f"{ACME_URL}/cycles/{job['result']['cycle_id']}")
    assert one.json()["model_version"] == job["result"]["model_version"]


async def test_a_job_is_found_by_every_process(client, app: FastAPI, make_learner):
    response = await client.post(f"{ACME_URL}/cycles", json={})
    job = await ended(client, response.json())
    async with running(create_app(make_learner())) as other:
        transport = httpx.ASGITransport(other)
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as second:
            assert await ended(second, response.json()) == job
            problem(await second.get(f"/v1/tenants/other/jobs/{job['job_id']}"), 404)
            name, jobs = f"job:{job['job_id']}", app.state.parts.jobs
            value = await jobs._store.service_state(ACME, name)
            value["job"]["state"] = "running"
            lost = {**value, "owner": jobs._owner.rpartition("/")[0].rpartition("/")[0] + "/1/0"}
            elsewhere = {**value, "owner": "other/boot/space/1/1/nonce"}
            silent = {**elsewhere, "at": (utc_now() - 2 * SILENCE).isoformat()}
            for stored, state in ((lost, "failed"), (silent, "failed"), (elsewhere, "running")):
                await jobs._store.set_service_state(ACME, name, stored)
                found = (await second.get(f"{ACME_URL}/jobs/{job['job_id']}")).json()
                assert (found["state"], found["error"] is None) == (state, state == "running")


async def test_the_log_has_no_message_of_a_failed_job(client, app: FastAPI, caplog):
    async def fail() -> None:
        raise ValueError("the words" + " of a user")  # the trace quotes this line

    jobs = app.state.parts.jobs
    job = await jobs.start(ACME, "cycle", fail)
    await jobs.wait()
    assert "see the log" in (await jobs.get(ACME, job.job_id)).error
    assert f"job {job.job_id} failed: ValueError" in caplog.text
    assert "words of a user" not in caplog.text


async def test_old_jobs_are_forgotten(client, app: FastAPI):
    await app.state.parts.jobs._store.set_service_state(ACME, f"job:{0:032x}", {"owner": "", "job": {}})
    await client.post(f"{ACME_URL}/cycles", json={})
    problem(await client.get(f"{ACME_URL}/jobs/{0:032x}"), 404)


async def test_ids_may_have_slashes(client):
    url = "/v1/tenants/a%2Fb"
    stored = await client.post(f"{url}/turns", json={**TURN, "turn_id": "t/1"})
    assert (stored.status_code, stored.json()["tenant_id"]) == (201, "a/b")
    await client.post(f"{url}/turns/t%2f1/feedback", json={"satisfaction_score": 1.0})
    assert (await client.get(f"{url}/turns/t%2F1")).json()["feedback"]["satisfaction_score"] == 1.0
    gold = [{"text": f"cancel order {number}", "intent": "cancel/order"} for number in range(3)]
    job = await client.post(f"{url}/bootstrap", json={"examples": gold})
    assert job.headers["location"].endswith(f"{url}/jobs/{job.json()['job_id']}")
    assert (await client.get(job.headers["location"])).status_code == 200
    problem(await client.get("/v1/tenants/a/b"), 404)


async def test_results_show_no_path_of_the_server(client, taught_home):
    for path in ("", "/versions", "/history", "/cycles"):
        text = (await client.get(f"{ACME_URL}{path}")).text
        assert str(taught_home) not in text, path
        assert '"/' not in text, path
    job = await ended(
        client, (await client.post(f"{ACME_URL}/bootstrap", json={"examples": gold_examples()})).json()
    )
    assert job["result"]["backup_path"].startswith("model_backups/")


async def test_versions_notes_and_rollback(client):
    await ended(
        client, (await client.post(f"{ACME_URL}/bootstrap", json={"examples": gold_examples()[:3]})).json()
    )
    newest, oldest = [one["version"] for one in (await client.get(f"{ACME_URL}/versions")).json()]
    restored = await client.post(f"{ACME_URL}/rollback", json={"reason": "wrong <b>answers</b>"})
    assert restored.json()["version"] == oldest
    assert (await client.get(ACME_URL)).json()["champion"]["version"] == oldest
    assert (await client.get(f"{ACME_URL}/versions/{newest}")).json()["note"] == "wrong <b>answers</b>"
    assert (await client.patch(f"{ACME_URL}/versions/{newest}", json={})).json()["note"] is None
    problem(await client.post(f"{ACME_URL}/rollback", json={"version": "v0099"}), 404)


async def test_labels_are_renamed_after_a_dry_run(client):
    url = f"{ACME_URL}/labels/travel/rename"
    body = {"new_name": "flight", "dry_run": True}
    assert (await client.post(url, json=body)).json()["done"] is False
    assert (await client.post(url, json={"new_name": "flight"})).json()["done"] is True
    labels = {row["label"] for row in (await client.get(f"{ACME_URL}/labels")).json()}
    assert "flight" in labels
    assert "travel" not in labels


async def test_outcomes_become_measures(client):
    run = {"run_id": "r", "agent_name": "a", "agent_type": "t", "status": "success", "duration_ms": 12.0}
    assert (await client.post(f"{ACME_URL}/outcomes/runs", json=run)).status_code == 202
    accuracy = {"agent_name": "a", "task_id": "1", "predicted_outcome": "x", "actual_outcome": "x",
                "feedback_source": "user"}  # fmt: skip
    response = await client.post(f"{ACME_URL}/outcomes/accuracy", json=accuracy)
    assert response.json() == {"score": 1.0}
    measures = (await client.get(f"{ACME_URL}/performance")).json()
    assert measures["success_rate"] == measures["avg_accuracy"] == 1.0
    assert (await client.get(f"{ACME_URL}/performance/report")).json()["health_score"] == 100.0
    problem(await client.post(f"{ACME_URL}/outcomes/runs", json={**run, "status": "odd"}), 400)


async def test_retraining_by_the_path_of_other_systems(client):
    url = "/api/performance/trigger-retraining"
    found = (await client.post(url, json={"tenant_id": ACME, "reason": "by hand"})).json()
    assert set(found) == {"status", "message", "result", "timestamp"}
    assert set(found["result"]) == {
        "success", "model_type", "retrain_type", "events_processed", "duration_ms"
    }  # fmt: skip
    assert "default" in str(problem(await client.post(url, json={}), 404)["detail"])


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/tenants/unknown/cycles", {}, 404),
        (f"{ACME_URL}/cycles", {"mode": "odd"}, 422),
        (f"{ACME_URL}/cycles", {"unknown": 1}, 422),
        (f"{ACME_URL}/analyze", {"texts": "one"}, 422),
        (f"{ACME_URL}/analyze", {"texts": [" "]}, 400),
        (f"{ACME_URL}/analyze", {"texts": ["\ud800"]}, 422),
        (f"{ACME_URL}/quarantine/release", {"example_ids": ["x"]}, 400),
        (f"{ACME_URL}/labels/unknown/retire", {}, 400),
        ("/v1/unknown", {}, 404),
    ],
)
async def test_bad_input_is_a_problem(client, path, body, status):
    content = json.dumps(body).encode()
    response = await client.post(path, content=content, headers={"Content-Type": "application/json"})
    problem(response, status)


async def test_values_of_a_refused_body_are_not_repeated(client):
    response = await client.post(f"{ACME_URL}/turns", json={"user_text": ["my secret"], "user_id": "u"})
    assert "my secret" not in response.text


async def test_bodies_are_limited(client, app: FastAPI):
    limit = app.state.parts.settings.max_body_bytes
    large = await client.post(f"{ACME_URL}/analyze", json={"texts": ["x" * limit]})
    assert problem(large, 413)["type"] == "urn:karen-learner:problem:body-too-large"

    async def chunks():
        for _ in range(5):
            yield b" " * (limit // 4)

    json_type = {"Content-Type": "application/json"}
    problem(await client.post(f"{ACME_URL}/analyze", content=chunks(), headers=json_type), 413)
    problem(await client.post(f"{ACME_URL}/analyze", content=b"texts=x"), 415)
    broken = await client.post(f"{ACME_URL}/analyze", content=b'{"texts": ["\xff', headers=json_type)
    assert broken.status_code in (400, 422)


async def test_streams_beyond_the_limit_are_refused(client, app: FastAPI):
    app.state.parts.streams = app.state.parts.settings.max_streams
    refused = await client.get(f"{ACME_URL}/events")
    assert "1,000 streams" in str(problem(refused, 429)["detail"])
    assert int(refused.headers["retry-after"]) >= 1


async def test_a_body_that_arrives_too_slowly_is_refused(app: FastAPI):
    limits = BodyLimits(app, max_bytes=1_000, timeout_s=0.05)
    scope = {
        "type": "http", "method": "POST", "path": f"{ACME_URL}/analyze", "client": ("127.0.0.1", 1),
        "headers": [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")],
    }  # fmt: skip
    parts = [{"type": "http.request", "body": b'{"texts": [', "more_body": True}]
    sent = []

    async def receive():
        if not parts:
            await asyncio.Event().wait()
        return parts.pop()

    async def send(message):
        sent.append(message)

    await limits(scope, receive, send)
    assert sent[0]["status"] == 408
    assert b"0.05 s" in sent[1]["body"]


@pytest.mark.parametrize(
    "content",
    [b'{"texts": ["\xff\xfe"]}', b'{"texts": ["\xc3("]}', b"\x00", b'{"texts": ["\\ud800"]}', b"[" * 5_000,
     b'{"texts": [1e999]}', b'{"texts": ["a"], "texts": 3}', b"", b"nul"],
)  # fmt: skip
async def test_broken_json_and_utf8_are_problems(client, content):
    response = await client.post(
        f"{ACME_URL}/analyze", content=content, headers={"Content-Type": "application/json"}
    )
    assert response.status_code in (400, 415, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_unexpected_error_is_a_problem_without_its_message(
    client, app: FastAPI, monkeypatch, caplog
):
    async def fail() -> None:
        raise RuntimeError("the words" + " of a user")  # the trace quotes this line

    monkeypatch.setattr(app.state.parts.learner, "tenants", fail)
    response = await client.get("/v1/tenants")
    assert "words of a user" not in str(problem(response, 500))
    assert "RuntimeError" in caplog.text
    assert "words of a user" not in caplog.text
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_health_readiness_and_metrics(client, app: FastAPI):
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json()["status"] == "ready"
    await client.post(f"{ACME_URL}/turns", json=TURN)
    await app.state.parts.learner.events.drain()
    text = (await client.get("/metrics")).text
    assert 'karen_turns_total{degraded="false"} 1.0' in text
    assert 'route="/v1/tenants/{tenant_id}/turns",status="201"' in text
    assert ACME not in text
    app.state.parts.stopping.set()
    problem(await client.get("/readyz"), 503)


async def test_the_description_names_each_operation_once(client):
    document = (await client.get("/openapi.json")).json()
    operations = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(operations) == len(set(operations))
    assert document["components"]["securitySchemes"]


async def test_a_user_is_erased_by_an_administrator(make_client):
    client = await make_client("admin")
    url = f"{ACME_URL}/users"
    turn_id = (await client.post(f"{ACME_URL}/turns", json={**TURN, "user_id": "ann/1"})).json()["turn_id"]
    query = {"user_id": "ann/1"}
    planned = (await client.delete(url, params=query | {"dry_run": True})).json()
    assert (planned["done"], planned["rows"]["turns"]) == (False, 1)
    assert (await client.delete(url, params=query)).json()["rows"]["turns"] == 1
    left = (await client.get(f"{ACME_URL}/turns/{turn_id}")).json()
    assert left["user_text"] is None
    assert left["metadata"]["user_id"].startswith("erased-")
    problem(await client.delete(url), 422)
