"""Tickets over HTTP."""

from __future__ import annotations

from tests.service.test_routes import ACME_URL, problem

SCRIPT = "<script>alert(1)</script>"


async def test_a_ticket_is_opened_marked_measured_and_dismissed(client):
    opened = await client.post(f"{ACME_URL}/tickets", json={"title": SCRIPT, "cost": 10})
    assert opened.status_code == 201
    ticket = opened.json()
    assert (ticket["title"], ticket["status"], ticket["metric"]) == (SCRIPT, "accepted", "accuracy")
    url = f"{ACME_URL}/tickets/{ticket['ticket_id']}"
    problem(await client.post(f"{url}/measure"), 400)
    made = await client.post(f"{url}/implemented", json={"details": "done"})
    assert made.json()["implementation_details"] == "done"
    report = (await client.post(f"{url}/measure")).json()
    assert report["effect"] is None
    assert not report["counts"]
    assert (await client.get(url)).json()["impacts"] == []
    assert [one["ticket_id"] for one in (await client.get(f"{ACME_URL}/tickets")).json()] == [
        ticket["ticket_id"]
    ]
    summary = (await client.get(f"{ACME_URL}/improvements")).json()
    assert (summary["tickets"], summary["measured"], summary["cumulative"]) == (1, 0, None)
    gone = await client.post(f"{url}/dismissed", json={"reason": "no"})
    assert gone.json()["status"] == "dismissed"


async def test_unusable_tickets_are_refused(client):
    for body in ({}, {"title": ""}, {"title": "t", "cost": -1}, {"title": "t", "else": 1}):
        problem(await client.post(f"{ACME_URL}/tickets", json=body), 422)
    problem(await client.post(f"{ACME_URL}/tickets", json={"title": "t", "metric": "x"}), 400)
    problem(await client.get(f"{ACME_URL}/improvements", params={"metric": "x"}), 400)
    problem(await client.get(f"{ACME_URL}/tickets/nothing"), 404)
    problem(await client.get("/v1/tenants/nobody/tickets"), 404)
    assert (await client.get(f"{ACME_URL}/tickets")).json() == []


async def test_texts_of_a_user_are_analysed_for_the_user(client):
    body = {"texts": ["what is my balance"], "user_id": "ann"}
    assert (await client.post(f"{ACME_URL}/analyze", json=body)).json()[0]["intent"] == "balance"
