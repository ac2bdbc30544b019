"""Events from Kafka. This is the only module that imports `confluent_kafka` (the extra `kafka`).

A synchronous consumer runs in a thread of ours. It hands each batch of messages to the event loop. It commits
their offsets after the batch is in the inbox, and its malformed messages in the dead-letter topic. If the
process dies before, the messages come again; the keys of the inbox make them the same events.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from karen_learner.autonomy.stream.protocols import Accept, Malformed, StreamMessage
from karen_learner.errors import KarenLearnerError, SettingsError
from karen_learner.settings import StreamSettings

logger = logging.getLogger(__name__)

BATCH = 500
POLL_S = 0.2
RETRY_S = (0.5, 30.0)
"""The first and the longest wait after a batch that could not be stored."""
PROBE_S = 2.0
"""Seconds between two questions whether the broker is there again."""
LAG_S = 1.0
FLUSH_S = 10.0
CRITICAL = 2
"""The level of librdkafka's own messages: each attempt to connect logs one. `_note` tells errors once."""
_DIGITS = re.compile(r"\d+")


class KafkaSource:
    """Reads one topic in a consumer group. `start` and `stop` are called in the event loop.

    While `is_full` returns true, the partitions are paused. A broker that is not there is no error: the
    source says so in its log and in `metrics`, and connects when it comes.
    """

    def __init__(
        self, servers: str, topic: str, *, group: str, settings: StreamSettings, accept: Accept,
        is_full: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._topic = topic
        self._dead_letters = settings.dead_letter_topic or f"{topic}.dead-letter"
        self._common = {
            "bootstrap.servers": servers,
            "log_level": CRITICAL,
            **_security(settings),
            **settings.kafka,
        }
        self._group = group
        self._accept = accept
        self._is_full = is_full
        self._stopping = threading.Event()
        self._ended = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._producer: Producer | None = None
        self._waiting: list[Message] = []
        self._retry_at, self._retry_s = 0.0, RETRY_S[0]
        self._probed_at = self._measured_at = 0.0
        self._paused: bool | None = False
        self._state: dict[str, Any] = {
            "kind": "kafka",
            "connected": False,
            "last_error": None,
            "paused": False,
            "partitions": 0,
            "lag_by_partition": {},
            **dict.fromkeys(("rebalances", "dead_lettered", "failed_commits"), 0),
        }

    def start(self) -> None:
        """Start the thread. Raises SettingsError for settings that librdkafka refuses."""
        self._loop = asyncio.get_running_loop()
        consumer = self._make_consumer()
        self._thread = threading.Thread(target=self._run, args=(consumer,), name="karen-kafka", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after its present batch, and leave the group. Idempotent."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await self._ended.wait()

    def metrics(self) -> dict[str, Any]:
        """The state of the connection: lag, rebalances, dead letters, the last error."""
        by_partition = dict(self._state["lag_by_partition"])
        return {**self._state, "lag_by_partition": by_partition, "lag": sum(by_partition.values())}

    # The thread ------------------------------------------------------------------------------

    def _make_consumer(self) -> Consumer:
        config = {
            "group.id": self._group,
            "auto.offset.reset": "earliest",
            **self._common,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "error_cb": self._on_error,
        }
        try:
            return Consumer(config, logger=logger)
        except (KafkaException, ValueError, TypeError) as error:
            raise SettingsError(f"the settings [stream] do not fit Kafka: {error}") from error

    def _run(self, consumer: Consumer) -> None:
        try:
            consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            while not self._stopping.is_set():
                try:
                    self._round(consumer)
                except Exception as error:  # the source must go on: the next round may succeed
                    self._note(f"{type(error).__name__}: {error}")
                    self._stopping.wait(RETRY_S[0])
        finally:
            consumer.close()
            self._state["connected"] = False
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._ended.set)

    def _round(self, consumer: Consumer) -> None:
        self._pause_or_resume(consumer)
        messages = consumer.consume(BATCH, timeout=POLL_S)
        usable = [one for one in messages if one.error() is None]
        for one in messages:
            if (problem := one.error()) is not None:
                self._note(str(problem.str()))
        if usable:
            self._say_connected()
        self._waiting += usable
        if self._waiting and time.monotonic() >= self._retry_at:
            self._take(consumer)
        self._measure_lag(consumer)
        self._probe(consumer)

    def _pause_or_resume(self, consumer: Consumer) -> None:
        """Pause all partitions while nothing can be stored. Polling goes on, so that the group stays."""
        is_full = bool(self._waiting) or self._is_full()
        if is_full is self._paused:
            return
        (consumer.pause if is_full else consumer.resume)(consumer.assignment())
        self._paused = self._state["paused"] = is_full

    def _take(self, consumer: Consumer) -> None:
        """Store the waiting messages, send malformed ones to the dead-letter topic, and commit offsets."""
        batch = self._waiting
        messages = [StreamMessage(one.value() or b"", _position(one)) for one in batch]
        try:
            malformed = self._in_loop(messages)
            self._send_dead_letters([(batch[one.place], one.reason) for one in malformed])
        except (KarenLearnerError, KafkaException, TimeoutError) as error:
            self._note(f"events cannot be stored: {error}")
            self._retry_at = time.monotonic() + self._retry_s
            self._retry_s = min(2.0 * self._retry_s, RETRY_S[1])
            return
        self._waiting, self._retry_s = [], RETRY_S[0]
        self._commit(consumer, batch)

    def _in_loop(self, messages: Sequence[StreamMessage]) -> Sequence[Malformed]:
        """The malformed messages of a stored batch. Raises TimeoutError if the event loop has ended."""
        loop = self._loop
        if loop is None or loop.is_closed():
            raise TimeoutError("the event loop has ended")
        future = asyncio.run_coroutine_threadsafe(self._accept(messages), loop)
        while not future.done() and not loop.is_closed():
            wait([future], timeout=1.0)
        return future.result(timeout=0)

    def _send_dead_letters(self, letters: Sequence[tuple[Message, str]]) -> None:
        """Raises KafkaException if a letter is not delivered."""
        if not letters:
            return
        if self._producer is None:
            self._producer = Producer({**self._common, "enable.idempotence": True}, logger=logger)
        failed: list[KafkaError] = []
        for message, reason in letters:
            self._producer.produce(
                self._dead_letters,
                value=message.value(),
                key=message.key(),
                headers=[("reason", reason.encode()), ("position", _position(message).encode())],
                on_delivery=lambda error, _message: failed.append(error) if error is not None else None,
            )
        if self._producer.flush(FLUSH_S) or failed:
            self._producer.purge()
            raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT))
        self._state["dead_lettered"] += len(letters)

    def _commit(self, consumer: Consumer, batch: Sequence[Message]) -> None:
        """After a rebalance a commit may fail. Then the next owner reads the messages again."""
        ends: dict[tuple[str, int], int] = {}
        for one in batch:
            place = str(one.topic()), int(one.partition() or 0)
            ends[place] = max(ends.get(place, 0), int(one.offset() or 0) + 1)
        offsets = [TopicPartition(topic, partition, end) for (topic, partition), end in ends.items()]
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            self._state["failed_commits"] += 1
            logger.info("offsets of %s are not committed: %s", self._topic, error)

    # Reports ---------------------------------------------------------------------------------

    def _measure_lag(self, consumer: Consumer) -> None:
        if time.monotonic() - self._measured_at < LAG_S:
            return
        self._measured_at = time.monotonic()
        lag = {}
        for one in consumer.position(consumer.assignment()):
            _, high = consumer.get_watermark_offsets(one, cached=True)
            if high >= 0 and one.offset >= 0:
                lag[one.partition] = high - one.offset
        self._state["lag_by_partition"] = lag

    def _probe(self, consumer: Consumer) -> None:
        """Ask a broker that was not there for its topics, from time to time."""
        if self._state["connected"] or time.monotonic() - self._probed_at < PROBE_S:
            return
        self._probed_at = time.monotonic()
        try:
            consumer.list_topics(self._topic, timeout=0.5)
        except KafkaException as error:
            self._note(str(error.args[0].str()))
        else:
            self._say_connected()

    def _say_connected(self) -> None:
        if not self._state["connected"]:
            logger.info("connected to the Kafka topic %s", self._topic)
        self._state["connected"] = True

    def _note(self, problem: str) -> None:
        if _DIGITS.sub("", problem) != _DIGITS.sub("", self._state["last_error"] or ""):
            logger.warning("Kafka topic %s: %s", self._topic, problem)
        self._state["last_error"] = problem

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._AUTHENTICATION):
            self._state["connected"] = False
        self._note(str(error.str()))

    def _on_assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._paused = None  # new partitions are not paused, others may be
        self._say_connected()
        self._count_rebalance(consumer, len(partitions))

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Forget messages of partitions that another consumer reads now."""
        lost = {(one.topic, one.partition) for one in partitions}
        self._waiting = [one for one in self._waiting if (one.topic(), one.partition()) not in lost]
        self._count_rebalance(consumer, -len(partitions))

    def _count_rebalance(self, _consumer: Consumer, change: int) -> None:
        self._state["rebalances"] += 1
        self._state["partitions"] += change


def _position(message: Message) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"


def _security(settings: StreamSettings) -> dict[str, str]:
    """The settings of TLS and SASL that are not empty."""
    given = {
        "security.protocol": settings.security_protocol,
        "ssl.ca.location": settings.ssl_ca,
        "ssl.certificate.location": settings.ssl_certificate,
        "ssl.key.location": settings.ssl_key,
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "sasl.password": settings.sasl_password,
    }
    return {name: value for name, value in given.items() if value}
