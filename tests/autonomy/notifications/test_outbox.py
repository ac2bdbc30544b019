"""The outbox: delivery, grouping, rates, growing waits, recovery, escalation."""

from __future__ import annotations

import asyncio
import logging

import pytest

from karen_learner.autonomy.notifications import Notifier
from karen_learner.memory import open_store
from karen_learner.settings import load_settings
from tests.autonomy.notifications.conftest import MakeOutbox, Outbox, Webhook, loopback, settings_with

DOWN = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HOUR = 3600.0


async def test_a_critical_notification_is_sent_at_once_and_once(
    make_outbox: MakeOutbox, webhook: Webhook
) -> None:
    outbox = make_outbox()
    assert await outbox.notify(severity="critical", facts={"free": 12}) == 1
    assert await outbox.advance() == [None]
    assert await outbox.advance(HOUR) == []
    [document] = webhook.documents
    [sent] = document["notifications"]
    assert (sent["title"], sent["facts"], sent["severity"]) == ("About disk", {"free": 12}, "critical")


async def test_warnings_of_a_minute_are_one_message(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    outbox = make_outbox()
    for topic in ("disk", "memory", "latency"):
        await outbox.notify(topic)
        assert await outbox.advance(10) == []
    assert await outbox.advance(30) == [None]
    [document] = webhook.documents
    assert [one["topic"] for one in document["notifications"]] == ["disk", "memory", "latency"]


async def test_a_problem_is_reported_once_until_its_recovery(
    make_outbox: MakeOutbox, webhook: Webhook
) -> None:
    outbox = make_outbox(group_s=0)
    assert [await outbox.notify() for _ in range(3)] == [1, 0, 0]
    assert await outbox.notify(severity="critical") == 1, "it has become worse"
    assert await outbox.notify(severity="warning") == 0
    assert await outbox.notify(kind="recovery") == 1
    assert await outbox.notify(kind="recovery") == 0
    assert await outbox.notify() == 1
    await outbox.advance()
    assert [one["kind"] for one in webhook.documents[0]["notifications"]] == [
        "problem", "problem", "recovery", "problem",
    ]  # fmt: skip


async def test_a_lasting_problem_is_reported_again(make_outbox: MakeOutbox) -> None:
    outbox = make_outbox(repeat_hours=24)
    await outbox.notify()
    await outbox.advance(23 * HOUR)
    assert await outbox.notify() == 0
    await outbox.advance(2 * HOUR)
    assert await outbox.notify() == 1


async def test_a_target_of_critical_notifications_gets_these_and_their_recovery(
    make_outbox: MakeOutbox, webhook: Webhook
) -> None:
    target = {"kind": "webhook", "url": webhook.url, "allow_private": True, "severity": "critical"}
    outbox = make_outbox({"pager": target}, group_s=0)
    assert await outbox.notify("disk") == 0
    assert await outbox.notify("disk", kind="recovery") == 0
    assert await outbox.notify("model", severity="critical") == 1
    assert await outbox.notify("model", kind="recovery") == 1


async def test_messages_beyond_the_rate_wait_and_share_one(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    outbox = make_outbox(group_s=0, max_per_hour=3)
    sent = []
    for number in range(30):
        await outbox.notify(f"problem {number}")
        sent += await outbox.advance(60)
    assert sent == [None] * 3
    await outbox.notify("a fire", severity="critical")
    assert await outbox.advance(1) == [None, None], "warnings do not delay a critical notification"
    assert sum(len(one["notifications"]) for one in webhook.documents) == 31


async def test_a_webhook_that_fails_for_a_day_gets_growing_waits_and_then_everything(
    make_outbox: MakeOutbox, webhook: Webhook
) -> None:
    outbox = make_outbox(group_s=0)
    webhook.answer = DOWN
    await outbox.notify()
    failures = 0
    for _ in range(24 * 60 // 5):
        failures += len(await outbox.advance(300))
    assert 20 <= failures <= 40
    [state] = await outbox.notifier.states()
    assert (state.waiting, state.failures, state.error) == (1, failures, "HTTP status 500")
    webhook.answer = OK
    assert [error for _ in range(20) for error in await outbox.advance(300)] == [None]
    [state] = await outbox.notifier.states()
    assert (state.waiting, state.delivered, state.failures) == (0, 1, 0)


async def test_waits_survive_a_restart(make_outbox: MakeOutbox, webhook: Webhook, tmp_path) -> None:
    settings = settings_with({"ops": {"kind": "webhook", "url": webhook.url, "allow_private": True}})
    webhook.answer = DOWN
    async with open_store(tmp_path / "karen.db", load_settings().store) as store:
        outbox = Outbox(Notifier(store, settings, resolver=loopback), store)
        await outbox.notify(severity="critical")
        assert await outbox.advance() == ["HTTP status 500"]
    async with open_store(tmp_path / "karen.db", load_settings().store) as store:
        again = Outbox(Notifier(store, settings, resolver=loopback), store, outbox.now)
        assert await again.advance(10) == []
        webhook.answer = OK
        assert await again.advance(30) == [None]


async def test_a_claimed_notification_is_sent_again_after_a_crash(
    make_outbox: MakeOutbox, webhook: Webhook
) -> None:
    outbox = make_outbox()
    webhook.hangs = True
    await outbox.notify(severity="critical")
    crashed = asyncio.create_task(outbox.notifier.tick(outbox.now))
    while not webhook.requests:
        await asyncio.sleep(0.01)
    webhook.hangs = False
    assert await outbox.advance() == [], "another process does not send it at the same time"
    crashed.cancel()
    await asyncio.wait([crashed])
    assert await outbox.advance(600) == [None]
    first, second = webhook.documents
    assert first["message_id"] == second["message_id"]


async def test_an_undelivered_notification_is_given_up_after_days(
    make_outbox: MakeOutbox, webhook: Webhook
) -> None:
    outbox = make_outbox(give_up_days=2)
    webhook.answer = DOWN
    await outbox.notify()
    for _ in range(60):
        await outbox.advance(HOUR)
    [state] = await outbox.notifier.states()
    assert (state.waiting, state.given_up) == (0, 1)


async def test_the_other_targets_are_told_that_one_fails_and_that_it_works_again(
    make_outbox: MakeOutbox, webhook: Webhook
) -> None:
    broken = {"kind": "webhook", "url": f"{webhook.url}/broken", "allow_private": True}

    async def resolver(host: str, port: int) -> list[str]:
        return addresses[host]

    addresses = {"hooks.example.org": ["127.0.0.1"], "broken.example.org": []}
    broken["url"] = f"http://broken.example.org:{webhook.port}/"
    working = {"kind": "webhook", "url": webhook.url, "allow_private": True}
    outbox = make_outbox({"a": broken, "b": working}, resolver=resolver, group_s=0)
    await outbox.notify()
    for _ in range(12):
        await outbox.advance(600)
    addresses["broken.example.org"] = ["127.0.0.1"]
    for _ in range(8):
        await outbox.advance(600)
    told = [
        (one["topic"], one["kind"])
        for document, (_, headers, _) in zip(webhook.documents, webhook.requests, strict=True)
        for one in document["notifications"]
        if headers["host"].startswith("hooks")
    ]
    assert told == [("disk", "problem"), ("target:a", "problem"), ("target:a", "recovery")]


async def test_notifications_of_a_removed_target_end(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    outbox = make_outbox()
    await outbox.notify()
    other = make_outbox({"new": {"kind": "webhook", "url": webhook.url, "allow_private": True}})
    await other.advance(HOUR)
    states = {one.target: one for one in await other.notifier.states()}
    assert (states["ops"].waiting, states["ops"].given_up, states["new"].waiting) == (0, 1, 0)


async def test_old_rows_are_removed(make_outbox: MakeOutbox) -> None:
    outbox = make_outbox(group_s=0, repeat_hours=1)
    for _ in range(40):
        await outbox.notify()
        await outbox.advance(24 * HOUR)
    [state] = await outbox.notifier.states()
    assert state.delivered <= 31


async def test_two_notifiers_send_each_notification_once(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    outbox = make_outbox(group_s=0)
    twin = make_outbox(group_s=0)
    for number in range(5):
        await outbox.notify(f"n{number}", severity="critical")
    await asyncio.gather(outbox.advance(1), twin.advance(1))
    topics = [one["topic"] for document in webhook.documents for one in document["notifications"]]
    assert sorted(topics) == [f"n{number}" for number in range(5)]


async def test_secrets_reach_no_log_and_no_state(
    make_outbox: MakeOutbox, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    target = {"kind": "webhook", "url": webhook.url, "allow_private": True, "secret": "s3cret-key"}
    outbox = make_outbox({"ops": target})
    webhook.answer = DOWN
    await outbox.notify(severity="critical")
    await outbox.advance()
    shown = caplog.text + repr(await outbox.notifier.states()) + repr(outbox.notifier._settings)
    assert "HTTP status 500" in shown
    assert "t0ken" not in shown
    assert "s3cret-key" not in shown
