"""An HTTP server and settings for notifications."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from karen_learner.autonomy.notifications import Notifier
from karen_learner.memory import open_store
from karen_learner.memory.store import SqlMemoryStore
from karen_learner.records.notifications import Notification
from karen_learner.settings import NotificationSettings, load_settings

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


@dataclass
class Webhook:
    """A server on loopback. `answer` is the response, `requests` what arrived."""

    port: int = 0
    answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n"
    hangs: bool = False
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://hooks.example.org:{self.port}/services/t0ken"

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append((head[0], headers, body))
        if not self.hangs:
            writer.write(self.answer)
            await writer.drain()
        else:
            await reader.read()
        writer.close()


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    hook = Webhook()
    server = await asyncio.start_server(hook.serve, "127.0.0.1", 0)
    hook.port = server.sockets[0].getsockname()[1]
    yield hook
    server.close()


@pytest.fixture
async def store() -> AsyncIterator[SqlMemoryStore]:
    async with open_store(":memory:", load_settings().store) as opened:
        yield opened


async def loopback(_host: str, _port: int) -> list[str]:
    """A resolver: every host is this machine."""
    return ["127.0.0.1"]


@dataclass
class Outbox:
    """A notifier with a clock that `advance` moves."""

    notifier: Notifier
    store: SqlMemoryStore
    now: datetime = NOON

    async def notify(self, topic: str = "disk", **values: Any) -> int:
        new = Notification(topic=topic, title=f"About {topic}", at=self.now, **values)
        return await self.notifier.notify(new, self.now)

    async def advance(self, seconds: float = 0.0) -> list[str | None]:
        """Errors of the messages after a time; None for an accepted one."""
        self.now += timedelta(seconds=seconds)
        return [one.error for one in await self.notifier.tick(self.now)]


MakeOutbox = Callable[..., Outbox]


def settings_with(targets: dict[str, Any], **values: Any) -> NotificationSettings:
    overrides = {f"notifications.{name}": value for name, value in values.items()}
    return load_settings(overrides={"notifications.targets": targets, **overrides}).notifications


@pytest.fixture
def make_outbox(store: SqlMemoryStore, webhook: Webhook) -> MakeOutbox:
    """Creates outboxes with targets; without any, with the webhook as `ops`."""

    def make(
        targets: dict[str, Any] | None = None,
        *,
        resolver: Callable[[str, int], Awaitable[list[str]]] = loopback,
        **values: Any,
    ) -> Outbox:
        default = {"ops": {"kind": "webhook", "url": webhook.url, "allow_private": True}}
        settings = settings_with(targets or default, **values)
        return Outbox(Notifier(store, settings, resolver=resolver), store)

    return make
