"""The stream as a part of the autonomous service: one consumer of a topic, and one inbox for each tenant."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from karen_learner.autonomy.stream.events import keyed, read_event
from karen_learner.autonomy.stream.inbox import PAGE, SLICE, EventInbox
from karen_learner.autonomy.stream.protocols import Malformed, StreamLearner, StreamMessage
from karen_learner.autonomy.stream.sources import kafka_source
from karen_learner.contracts import Clock
from karen_learner.errors import InvalidInput
from karen_learner.records import utc_now
from karen_learner.records.stream import NewEvent

if TYPE_CHECKING:
    from karen_learner.autonomy.stream.kafka import KafkaSource

logger = logging.getLogger(__name__)

GROUP = "karen-learner"
PRUNE_EVERY = timedelta(hours=1)


class StreamPart:
    """Reads the topic `stream.topic` of the brokers `stream.servers`; the events become outcomes and turns.

    Events of all tenants of the home are read, because their offsets are committed together. An event without
    a tenant belongs to `stream.tenant`. One of an unknown tenant is malformed. It is a `Stream` for a
    troubleshooter.
    """

    def __init__(self, learner: StreamLearner, *, clock: Clock = utc_now) -> None:
        self._learner = learner
        self._settings = learner.settings.stream
        self._clock = clock
        self._inboxes: dict[str, EventInbox] = {}
        self._source: KafkaSource | None = None
        self._work: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._pruned_at: datetime | None = None

    async def start(self) -> None:
        """Open the inboxes, and start the consumer. Idempotent.

        A broker that is not there is no error: the consumer connects when it comes. Raises InvalidInput
        without the extra `kafka`.
        """
        if self._source is not None:
            return
        source = kafka_source(
            self._settings.servers,
            self._settings.topic,
            group=GROUP,
            settings=self._settings,
            accept=self._accept,
            is_full=lambda: self._waiting >= self._settings.max_waiting,
        )
        for tenant_id in await self._learner.tenants():
            await self._inbox(tenant_id)
        source.start()
        self._due.set()
        self._source, self._work = source, asyncio.create_task(self._process_when_due())

    async def stop(self) -> None:
        """End the consumer. Events that wait are on disk: the next start processes them. Idempotent."""
        source, self._source = self._source, None
        work, self._work = self._work, None
        if source is not None:
            await source.stop()
        if work is not None:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def tick(self, now: datetime) -> None:
        """Process what waits, and remove old events once in an hour."""
        self._due.set()
        if self._pruned_at is None or abs(now - self._pruned_at) >= PRUNE_EVERY:
            self._pruned_at = now
            for inbox in list(self._inboxes.values()):
                await inbox.prune()

    def get_metrics(self) -> dict[str, Any]:
        """Whether the consumer runs, the number of waiting events, and the state of the connection."""
        return {
            "running": self._source is not None,
            "waiting": self._waiting,
            "source": {} if self._source is None else self._source.metrics(),
        }

    @property
    def _waiting(self) -> int:
        return sum(one.waiting for one in self._inboxes.values())

    async def _accept(self, messages: Sequence[StreamMessage]) -> Sequence[Malformed]:
        """Store the events of messages in the inboxes of their tenants. Raises StoreError."""
        events: dict[str, list[NewEvent]] = defaultdict(list)
        malformed = []
        for place, message in enumerate(messages):
            if place % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            try:
                event = read_event(message.content)
                tenant_id = event.tenant_id or self._settings.tenant
                (await self._inbox(tenant_id)).check(event)
            except InvalidInput as error:
                malformed.append(Malformed(place, str(error)))
            else:
                events[tenant_id].append(keyed(event, message.position))
        for tenant_id, some in events.items():
            await self._inboxes[tenant_id].add(some)
        self._due.set()
        return malformed

    async def _inbox(self, tenant_id: str) -> EventInbox:
        """The inbox of a tenant. Raises InvalidInput for an unknown one."""
        found = self._inboxes.get(tenant_id)
        if found is not None:
            return found
        if not tenant_id:
            raise InvalidInput("the event names no tenant, and the setting stream.tenant is empty")
        if tenant_id not in await self._learner.tenants():
            raise InvalidInput(f"the tenant {tenant_id!r:.80} is unknown")
        made = EventInbox(
            self._learner.store,
            self._learner,
            tenant_id=tenant_id,
            settings=self._learner.settings,
            batch_size=PAGE,
            capacity=0,
            clock=self._clock,
        )
        await made.load()
        self._inboxes[tenant_id] = made
        return made

    async def _process_when_due(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            for tenant_id, inbox in list(self._inboxes.items()):
                try:
                    await inbox.process()
                except Exception:  # the events stay in the inbox: the next tick repeats it
                    logger.exception("events of %r cannot be processed: trying again", tenant_id)
