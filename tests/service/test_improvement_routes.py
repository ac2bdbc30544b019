"""The production log, analyses, recommendations and health over HTTP."""

from __future__ import annotations

from datetime import timedelta

from karen_learner.records import utc_now
from tests.conftest import ACME
from tests.improvement.test_production_log import entry
from tests.service.test_routes import ACME_URL, problem


async def test_entries_are_stored_read_and_erased(make_client):
    client = await make_client("admin")
    entries = [entry(1, timestamp=None, user_id="ann"), {"log_type": "x"}]
    entries[0].pop("timestamp")
    response = await client.post(f"{ACME_URL}/decisions", json={"decisions": entries})
    assert response.status_code == 201
    assert response.json()["stored"] == 1
    assert response.json()["decisions"][1]["problem"]["status"] == 400
    found = await client.get(f"{ACME_URL}/decisions/id:e1")
    assert found.json()["input_data"] == {"text": "hello"}
    assert (await client.delete(f"{ACME_URL}/decisions", params={"user_id": "ann"})).json() == {"erased": 1}
    problem(await client.get(f"{ACME_URL}/decisions/id:e1"), 404)
    problem(await client.delete(f"{ACME_URL}/decisions"), 400)


async def test_a_period_is_analysed_and_recommended_about(client):
    yesterday = (utc_now() - timedelta(days=1)).isoformat()
    entries = [entry(n, timestamp=yesterday) for n in range(3)]
    await client.post(f"{ACME_URL}/decisions", json={"decisions": entries})
    found = (await client.get(f"{ACME_URL}/analysis", params={"days": 3})).json()
    assert found["components"]["ai_message_performance"]["observations"] == 3
    assert found["failed"] == {}
    period = found["analysis_period"]
    query = {"component": "ai_message_performance", **period}
    evidence = await client.get(f"{ACME_URL}/evidence", params=query)
    assert evidence.json()["numbers"]["observations"] == 3
    problem(await client.get(f"{ACME_URL}/evidence", params=query | {"end": period["start"]}), 400)
    problem(await client.get(f"{ACME_URL}/analysis", params={"days": 0}), 422)
    assert (await client.post(f"{ACME_URL}/recommendations")).status_code == 200
    assert (await client.get(f"{ACME_URL}/recommendations")).json() == []
    problem(await client.get(f"{ACME_URL}/recommendations/x/impact"), 404)
    problem(await client.post(f"{ACME_URL}/recommendations/x/status", json={"status": "accepted"}), 404)


async def test_health_and_its_history(client):
    found = (await client.get(f"{ACME_URL}/health/dashboard")).json()
    assert found["status"]["tenant_id"] == ACME
    assert len(found["history"]) == 1
    assert (await client.get(f"{ACME_URL}/health")).json()["components"].keys() >= {"system"}


async def test_other_tenants_are_unknown(client):
    for path in ("analysis", "recommendations", "health", "decisions/id:e1"):
        problem(await client.get(f"/v1/tenants/nobody/{path}"), 404)
