"""Kafka for tests: the mock cluster of librdkafka, over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

WAIT_S = 60.0
PARTITIONS = range(4)
FAST = {"session.timeout.ms": 6_000, "heartbeat.interval.ms": 300, "reconnect.backoff.max.ms": 500}


class Brokers:
    """A mock cluster of one broker. Topics have four partitions."""

    def __init__(self) -> None:
        self._producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        found = self._producer.list_topics(timeout=WAIT_S).brokers.values()
        self.servers = ",".join(f"{one.host}:{one.port}" for one in found)

    def send(self, topic: str, *events: Any, partition: int = -1) -> None:
        """Send events as JSON, bytes as they are."""
        for one in events:
            content = one if isinstance(one, bytes) else json.dumps(one).encode()
            self._producer.produce(topic, content, **({} if partition < 0 else {"partition": partition}))
        assert self._producer.flush(WAIT_S) == 0

    def read(self, topic: str, *, count: int) -> list[tuple[bytes, dict[str, str]]]:
        """Contents and headers of the first messages of a topic. Joins no consumer group."""
        consumer = self._consumer("reader")
        consumer.assign([TopicPartition(topic, one, OFFSET_BEGINNING) for one in PARTITIONS])
        found: list[tuple[bytes, dict[str, str]]] = []
        end = time.monotonic() + WAIT_S
        while len(found) < count and time.monotonic() < end:
            for one in consumer.consume(100, timeout=0.2):
                if one.error() is None:
                    headers = {name: value.decode() for name, value in one.headers() or ()}
                    found.append((one.value(), headers))
        consumer.close()
        return found

    def committed(self, topic: str, group: str) -> int:
        """The number of messages whose offsets the group has committed."""
        consumer = self._consumer(group)
        found = consumer.committed([TopicPartition(topic, one) for one in PARTITIONS], timeout=WAIT_S)
        consumer.close()
        return sum(max(0, one.offset) for one in found)

    def _consumer(self, group: str) -> Consumer:
        return Consumer({"bootstrap.servers": self.servers, "group.id": group, "log_level": 0})


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition. Raises TimeoutError."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.02)
