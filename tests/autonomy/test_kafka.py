"""Events from Kafka, on the mock cluster of librdkafka over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from karen_learner import RealTimeModelUpdater
from karen_learner.autonomy.stream.kafka import KafkaSource
from karen_learner.autonomy.stream.protocols import Malformed, StreamMessage
from karen_learner.errors import SettingsError, StoreLocked
from karen_learner.memory import open_store
from karen_learner.settings import load_settings
from tests.autonomy.brokers import FAST, Brokers, until

EARLY = datetime(2000, 1, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def brokers() -> Brokers:
    return Brokers()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)[:60]


class Receiver:
    """Receives batches as an inbox does, and may fail or be full."""

    def __init__(self) -> None:
        self.contents: Counter[bytes] = Counter()
        self.failures = 0
        self.full = False

    async def accept(self, messages: Sequence[StreamMessage]) -> Sequence[Malformed]:
        if self.failures:
            self.failures -= 1
            raise StoreLocked("the database is locked")
        self.contents.update(one.content for one in messages)
        return [Malformed(place, "odd") for place, one in enumerate(messages) if one.content == b"odd"]


def source_of(brokers: Brokers, topic: str, receiver: Receiver, **settings: Any) -> KafkaSource:
    stream = load_settings(overrides={"stream": {"kafka": FAST, **settings}}, environment={}).stream
    return KafkaSource(
        brokers.servers, topic, group=topic, settings=stream, accept=receiver.accept,
        is_full=lambda: receiver.full,
    )  # fmt: skip


async def test_events_are_counted_once_and_malformed_ones_are_dead_letters(
    brokers: Brokers, topic: str, tmp_path: Path
) -> None:
    settings = load_settings(overrides={"stream": {"kafka": FAST}}, environment={})
    good = [{"event_id": f"e{number}", "agent_name": "llm", "success": True} for number in range(40)]
    await asyncio.to_thread(brokers.send, topic, *good, *good[:10], b"no json", {"agent_name": "llm"})
    async with open_store(tmp_path / "karen.db", settings.store) as store:
        for more in ([], [{"agent_name": "spacy", "success": False}]):
            await asyncio.to_thread(brokers.send, topic, *more)
            updater = RealTimeModelUpdater(
                brokers.servers, topic, store=store, settings=settings, batch_timeout_seconds=0.05
            )
            expected = 1 if more else 40
            async with updater:
                await until(lambda u=updater, e=expected: u.get_metrics().events_processed == e)
                await until(lambda u=updater: u.get_metrics().source["connected"])
            metrics = updater.get_metrics()
            assert metrics.malformed == (0 if more else 2)
            assert metrics.duplicates == (0 if more else 10)
            assert not metrics.source["connected"]
        outcomes = await store.newest_outcomes("default", since=EARLY, limit=100)
    assert Counter(one.agent for one in outcomes) == {"llm": 40, "spacy": 1}
    letters = await asyncio.to_thread(brokers.read, f"{topic}.dead-letter", count=2)
    assert {content for content, _ in letters} == {b"no json", b'{"agent_name": "llm"}'}
    assert all(headers["position"].startswith(f"{topic}/") for _, headers in letters)
    assert sorted("needs one of" in headers["reason"] for _, headers in letters) == [False, True]
    assert await asyncio.to_thread(brokers.committed, topic, "karen-learner-default") == 53


async def test_a_store_that_fails_loses_nothing(
    brokers: Brokers, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("karen_learner.autonomy.stream.kafka.RETRY_S", (0.05, 0.1))
    receiver = Receiver()
    receiver.failures = 3
    await asyncio.to_thread(brokers.send, topic, *range(20), b"odd")
    source = source_of(brokers, topic, receiver)
    source.start()
    await until(lambda: receiver.contents.total() == 21)
    await until(lambda: source.metrics()["dead_lettered"] == 1)
    await source.stop()
    assert "the database is locked" in source.metrics()["last_error"]
    assert await asyncio.to_thread(brokers.committed, topic, topic) == 21


async def test_a_full_inbox_pauses_the_partitions(brokers: Brokers, topic: str) -> None:
    receiver = Receiver()
    source = source_of(brokers, topic, receiver)
    await asyncio.to_thread(brokers.send, topic, *range(4))
    source.start()
    await until(lambda: receiver.contents.total() == 4)
    receiver.full = True
    await until(lambda: bool(source.metrics()["paused"]))
    await asyncio.to_thread(brokers.send, topic, *range(100, 130))
    await asyncio.sleep(1.0)
    assert receiver.contents.total() == 4
    receiver.full = False
    await until(lambda: receiver.contents.total() == 34)
    await until(lambda: set(source.metrics()["lag_by_partition"].values()) == {0})
    assert source.metrics()["lag"] == 0
    await source.stop()


async def test_another_consumer_takes_over(brokers: Brokers, topic: str) -> None:
    receiver = Receiver()
    await asyncio.to_thread(brokers.send, topic, *range(50))
    first, second = (source_of(brokers, topic, receiver) for _ in range(2))
    first.start()
    await until(lambda: receiver.contents.total() == 50)
    second.start()
    await until(lambda: second.metrics()["partitions"] > 0)
    await first.stop()
    await asyncio.to_thread(brokers.send, topic, *range(50, 100))
    await until(lambda: set(range(100)) == {int(one) for one in receiver.contents})
    assert first.metrics()["rebalances"] >= 2
    await second.stop()


async def test_a_broker_that_is_not_there_is_told_and_connected_later(
    brokers: Brokers, topic: str, proxy: Callable[[], Any], free_port: int
) -> None:
    receiver = Receiver()
    await asyncio.to_thread(brokers.send, topic, *range(5))
    source = source_of(brokers, topic, receiver)
    source._common["bootstrap.servers"] = f"127.0.0.1:{free_port}"
    source.start()
    await until(lambda: source.metrics()["last_error"] is not None)
    assert not source.metrics()["connected"]
    await proxy()
    await until(lambda: receiver.contents.total() == 5)
    assert source.metrics()["connected"]
    await source.stop()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
async def proxy(brokers: Brokers, free_port: int) -> Any:
    """Starts a server at the free port that forwards to the broker."""
    host, _, port = brokers.servers.partition(":")
    servers: list[asyncio.Server] = []
    writers: list[asyncio.StreamWriter] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
        finally:
            writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection(host, int(port))
        writers.extend((writer, their_writer))
        await asyncio.gather(copy(reader, their_writer), copy(their_reader, writer), return_exceptions=True)

    async def start() -> None:
        servers.append(await asyncio.start_server(forward, "127.0.0.1", free_port))

    yield start
    for server in servers:
        server.close()
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


@pytest.mark.parametrize(
    "settings",
    [{"security_protocol": "SSL", "ssl_ca": "/no/such/file"}, {"kafka": {"no.such.setting": 1}}],
    ids=["no file", "no setting"],
)
async def test_settings_that_do_not_fit_are_refused_at_the_start(
    brokers: Brokers, topic: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match=r"the settings \[stream\] do not fit Kafka"):
        source_of(brokers, topic, Receiver(), **settings).start()


def test_security_settings_reach_librdkafka_and_the_password_is_hidden() -> None:
    from karen_learner.autonomy.stream.kafka import _security

    given = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_password": "geheim"}
    stream = load_settings(overrides={"stream": given}, environment={}).stream
    assert _security(stream) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.password": "geheim",
    }
    assert "geheim" not in repr(stream)
