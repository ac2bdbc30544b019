"""Incidents, pauses of remedies, and outcomes over HTTP."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi import FastAPI

from karen_learner.records import Outcome, utc_now
from karen_learner.records.incidents import Incident
from tests.conftest import ACME
from tests.service.test_routes import ACME_URL, problem


@pytest.fixture
async def incident(app: FastAPI) -> Incident:
    now = utc_now()
    given = {
        "type": "broker_gone",
        "severity": "warning",
        "opened_at": now,
        "updated_at": now,
        "next_at": now,
    }
    store = app.state.parts.learner.store
    for tenant in ("other", None):
        await store.save_incident(Incident(tenant_id=tenant, **given))
    saved = await store.save_incident(Incident(tenant_id=ACME, **given))
    assert saved is not None
    return saved


async def test_an_incident_is_acknowledged_and_silenced(client, incident):
    (listed,) = (await client.get(f"{ACME_URL}/incidents")).json()
    url = f"{ACME_URL}/incidents/{incident.incident_id}"
    assert (await client.get(url)).json() == listed
    known = (await client.post(f"{url}/acknowledge", json={"reason": "<script>"})).json()
    assert known["acknowledged"] == "<script>"
    silent = (await client.post(f"{url}/silence", json={"reason": "night", "hours": 2})).json()
    assert silent["silenced_until"] > (utc_now() + timedelta(hours=1)).isoformat()
    problem(await client.post(f"{url}/silence", json={"reason": "night", "hours": 0}), 422)


async def test_incidents_of_others_are_unknown(client, app, incident):
    for found in await app.state.parts.learner.store.unended_incidents():
        if found.tenant_id != ACME:
            url = f"{ACME_URL}/incidents/{found.incident_id}"
            problem(await client.get(url), 404)
            problem(await client.post(f"{url}/acknowledge", json={"reason": "x"}), 404)
    problem(await client.get(f"{ACME_URL}/incidents/never"), 404)
    problem(await client.get(f"{ACME_URL}/incidents/%00"), 400)


async def test_a_part_of_an_id_tells_nothing_of_other_tenants(client, app, incident):
    store = app.state.parts.learner.store
    for number in range(6):
        new = incident.with_(incident_id=f"shared{number}", tenant_id="other", type=f"t{number}", revision=0)
        assert await store.save_incident(new) is not None
    problem(await client.get(f"{ACME_URL}/incidents/shared"), 404)
    mine = incident.with_(incident_id="sharedmine", type="mine", revision=0)
    await store.save_incident(mine.with_(updated_at=incident.opened_at))
    assert (await client.get(f"{ACME_URL}/incidents/shared")).json()["incident_id"] == "sharedmine"
    assert "names 5" in str(problem(await client.get("/v1/tenants/other/incidents/shared"), 400)["detail"])


async def test_a_remedy_is_paused_and_resumed(client):
    url = f"{ACME_URL}/remedies"
    problem(await client.post(f"{url}/unknown/pause", json={"reason": "x"}), 400)
    paused = (await client.post(f"{url}/rollback/pause", json={"reason": "by hand"})).json()
    assert (paused["remedy"], paused["tenant_id"], paused["until"]) == ("rollback", ACME, None)
    assert [(await client.post(f"{url}/rollback/resume")).json() for _ in range(2)] == [True, False]


async def test_outcomes_are_read_in_pages(client, app):
    now = utc_now()
    new = [
        Outcome(source="attempt", agent="a", known_at=now, predicted="secret", success=number % 2 == 0)
        for number in range(3)
    ]
    await app.state.parts.learner.store.add_outcomes(ACME, new)
    found = (await client.get(f"{ACME_URL}/outcomes")).json()
    assert [one["success"] for one in found] == [True, False, True]
    assert "secret" not in str(found)
    rest = (await client.get(f"{ACME_URL}/outcomes", params={"after": found[0]["seq"]})).json()
    assert rest == found[1:]
