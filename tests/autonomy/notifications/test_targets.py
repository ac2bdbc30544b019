"""Targets: signatures, formats, addresses, redirects, time limits, e-mail."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from hypothesis import given
from hypothesis import strategies as st

from karen_learner.autonomy.notifications.addresses import is_public
from karen_learner.autonomy.notifications.messages import body_of, email_of, lines_of
from karen_learner.errors import InvalidInput, SettingsError
from karen_learner.records.notifications import Notification
from tests.autonomy.notifications.conftest import MakeOutbox, Webhook, settings_with

MOVED = "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n"
SECRET = "s3cret-key"


def hook(url: str, **values: Any) -> dict[str, Any]:
    return {"ops": {"kind": "webhook", "url": url, "allow_private": True, **values}}


async def error_of(
    make_outbox: MakeOutbox, targets: dict[str, Any], *, topic: str = "disk", **values: Any
) -> str | None:
    outbox = make_outbox(targets, **values)
    await outbox.notify(topic, severity="critical")
    [error] = await outbox.advance()
    return error


async def test_a_signature_is_that_of_standard_webhooks(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    assert await error_of(make_outbox, hook(webhook.url, secret=SECRET)) is None
    [(_, headers, body)] = webhook.requests
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    # the server of the test lower-cases headers
    assert headers["webhook-signature"] == f"v1,{expected}".lower()


async def test_a_secret_comes_from_the_environment(
    make_outbox: MakeOutbox, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await error_of(make_outbox, hook("env:OPS_URL")) == (
        "the environment variable 'OPS_URL' is not set"
    )
    monkeypatch.setenv("OPS_URL", webhook.url)
    assert await error_of(make_outbox, hook("env:OPS_URL"), topic="again") is None


async def test_a_private_address_is_refused(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    targets = hook(webhook.url.replace("http:", "https:"), allow_private=False)
    assert "private address" in str(await error_of(make_outbox, targets))
    assert "http:// needs allow_private" in str(
        await error_of(make_outbox, hook(webhook.url, allow_private=False), topic="again")
    )
    assert webhook.requests == []


async def test_a_name_is_resolved_once_so_that_it_cannot_change_after_the_check(
    make_outbox: MakeOutbox, webhook: Webhook
) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    async def changing(host: str, port: int) -> list[str]:
        return next(answers)

    assert await error_of(make_outbox, hook(webhook.url), resolver=changing) is None
    assert len(webhook.requests) == 1
    assert webhook.requests[0][1]["host"] == f"hooks.example.org:{webhook.port}"


async def test_one_private_address_among_public_ones_is_refused(make_outbox: MakeOutbox) -> None:
    async def mixed(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "169.254.169.254"]

    targets = hook("https://hooks.example.org/x", allow_private=False)
    assert "private address" in str(await error_of(make_outbox, targets, resolver=mixed))


async def test_the_next_address_is_tried(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    async def two(host: str, port: int) -> list[str]:
        return ["127.0.0.2" if webhook.port else "", "127.0.0.1"]

    assert await error_of(make_outbox, hook(webhook.url), resolver=two) is None


async def test_a_redirect_is_followed_only_if_allowed(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    webhook.answer = MOVED.format("/elsewhere").encode()
    assert "redirects are not followed" in str(await error_of(make_outbox, hook(webhook.url)))
    assert len(webhook.requests) == 1
    allowed = hook(webhook.url, allow_redirects=True)
    assert await error_of(make_outbox, allowed, topic="again") == "too many redirects"
    assert [line.split()[1] for line, _, _ in webhook.requests[1:]] == [
        "/services/t0ken", "/elsewhere", "/elsewhere", "/elsewhere",
    ]  # fmt: skip


async def test_a_redirect_to_a_private_address_is_refused(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    webhook.answer = MOVED.format("https://u:p@169.254.169.254/latest").encode()
    targets = hook(webhook.url, allow_redirects=True)
    assert "without a user name" in str(await error_of(make_outbox, targets))


async def test_a_webhook_that_hangs_is_left(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    webhook.hangs = True
    assert await error_of(make_outbox, hook(webhook.url), timeout_s=0.2) == "no answer within 0.2 seconds"


async def test_the_wait_that_a_target_asks_for_is_kept(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    webhook.answer = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1800\r\ncontent-length: 0\r\n\r\n"
    outbox = make_outbox()
    await outbox.notify(severity="critical")
    assert await outbox.advance() == ["HTTP status 429"]
    assert await outbox.advance(1700) == []
    assert await outbox.advance(101) == ["HTTP status 429"]


async def test_garbage_and_a_closed_port_are_failures(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    webhook.answer = b"\x00garbage\r\n\r\n"
    assert await error_of(make_outbox, hook(webhook.url)) == "RemoteProtocolError"
    closed = hook("http://hooks.example.org:9/")
    assert "cannot be connected to" in str(await error_of(make_outbox, closed, topic="again"))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_formats_escape_what_a_chat_would_interpret() -> None:
    url = "https://hooks.example.org/x"
    targets = settings_with(
        {"s": {"kind": "slack", "url": url}, "d": {"kind": "discord", "url": url}}
    ).targets
    group = [Notification(topic="t", title="<!channel> *down*", tenant_id="a\nb", facts={"share": 0.123456})]
    slack, discord = (body_of(targets[name], "id", group) for name in "sd")
    assert slack == {"text": "WARNING: &lt;!channel&gt; *down* (tenant a b)\n  share: 0.1235"}
    assert discord["allowed_mentions"] == {"parse": []}
    assert r"\<!channel\> \*down\*" in discord["content"]


@given(
    title=st.text(min_size=1, max_size=300),
    tenant=st.text(max_size=2000),
    fact=st.text(max_size=5000) | st.floats() | st.integers(),
    count=st.integers(1, 20),
)
def test_any_notification_has_a_message_in_every_format(
    title: str, tenant: str, fact: Any, count: int
) -> None:
    url = "https://hooks.example.org/x"
    mail = {"kind": "email", "host": "h", "sender": "a@b.c", "recipients": "d@e.f"}
    targets = settings_with({"d": {"kind": "discord", "url": url}, "m": mail}).targets
    group = [Notification(topic="t", title=title, tenant_id=tenant, facts={"fact": fact})] * count
    assert len(body_of(targets["d"], "id", group)["content"]) <= 2000
    assert "\n" not in email_of(targets["m"], "id", group)["subject"]
    assert len(email_of(targets["m"], "id", group).as_bytes()) < 40_000 * count
    assert all("\n" not in line for line in lines_of(group))


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.refusal = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope)
        return self.refusal or "250 OK"


@pytest.fixture
async def mailbox() -> AsyncIterator[tuple[Mailbox, int]]:
    box = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, loop=loop), "127.0.0.1", 0)
    yield box, server.sockets[0].getsockname()[1]
    server.close()


def mail_to(port: int, **values: Any) -> dict[str, Any]:
    return {
        "mail": {
            "kind": "email",
            "host": "smtp.example.org",
            "port": port,
            "security": "none",
            "sender": "karen@example.org",
            "recipients": ["ops@example.org", "lead@example.org"],
            "allow_private": True,
            **values,
        }
    }


async def test_an_email_arrives(make_outbox: MakeOutbox, mailbox: tuple[Mailbox, int]) -> None:
    box, port = mailbox
    assert await error_of(make_outbox, mail_to(port)) is None
    [envelope] = box.mails
    assert envelope.rcpt_tos == ["ops@example.org", "lead@example.org"]
    assert b"Subject: [karen_learner] CRITICAL: About disk" in envelope.content


async def test_a_refused_email_is_repeated_without_the_words_of_the_server(
    make_outbox: MakeOutbox, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    box.refusal = "554 your password hunter2 is wrong"
    assert await error_of(make_outbox, mail_to(port)) == "SMTP status 554"


async def test_tls_and_private_addresses_of_mail_servers(
    make_outbox: MakeOutbox, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    required = mail_to(port, security="starttls")
    assert await error_of(make_outbox, required) == "SMTPException", "the server offers no STARTTLS"
    private = mail_to(port, allow_private=False)
    assert "private address" in str(await error_of(make_outbox, private, topic="again"))
    assert box.mails == []


async def test_a_test_message_reaches_each_target(make_outbox: MakeOutbox, webhook: Webhook) -> None:
    closed = {"kind": "slack", "url": "http://hooks.example.org:9/", "allow_private": True}
    outbox = make_outbox(hook(webhook.url) | {"slack": closed})
    results = {one.target: one.error for one in await outbox.notifier.test(outbox.now)}
    assert results["ops"] is None
    assert "cannot be connected to" in str(results["slack"])
    with pytest.raises(InvalidInput, match="known are ops, slack"):
        await outbox.notifier.test(outbox.now, "pager")


@pytest.mark.parametrize(
    "target",
    [
        {"kind": "webhook", "url": "ftp://topsecret"},
        {"kind": "webhook", "url": "https://user:topsecret@example.org/"},
        {"kind": "slack", "urll": "https://topsecret"},
        {"kind": "email", "host": "h", "sender": "a@b.c\nBcc: topsecret@x", "recipients": "a@b.c"},
        {"kind": "email", "host": "h", "sender": "a@b.c", "recipients": [], "password": "topsecret"},
        "https://topsecret",
    ],
)
def test_a_wrong_target_is_refused_without_its_values(target: Any) -> None:
    with pytest.raises(SettingsError) as refused:
        settings_with({"ops": target})
    assert "topsecret" not in str(refused.value)
    assert "topsecret" not in repr(refused.value.__cause__)
