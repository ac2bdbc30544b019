"""`EventInbox`: stores events once, and makes outcomes and turns from them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Sequence
from datetime import timedelta

from karen_learner.autonomy.stream.agent_selection import tallies_of
from karen_learner.autonomy.stream.events import keyed, outcome_of, read_event
from karen_learner.autonomy.stream.protocols import Malformed, StreamLearner, StreamMessage
from karen_learner.contracts import Clock, InboxStore
from karen_learner.errors import InvalidInput
from karen_learner.records.stream import InboxEvent, NewEvent, StreamEvent
from karen_learner.settings import Settings

logger = logging.getLogger(__name__)

PAGE = 500
TURNS_AT_ONCE = 50
SLICE = 100
"""Messages that are validated at once: about a millisecond of the event loop."""


class EventInbox:
    """The events of one tenant: first in the store, then processed. Use it in one event loop.

    `buffer` holds the newest processed events, `waiting` the number of the others. `due` is set when
    `batch_size` events wait.
    """

    def __init__(
        self,
        store: InboxStore,
        learner: StreamLearner | None,
        *,
        tenant_id: str,
        settings: Settings,
        batch_size: int,
        capacity: int,
        clock: Clock,
    ) -> None:
        self.store = store
        self.due = asyncio.Event()
        self.waiting = 0
        self.buffer: deque[InboxEvent] = deque(maxlen=capacity)
        self.counts: Counter[str] = Counter()
        self._learner = learner
        self._tenant_id = tenant_id
        self._settings = settings
        self._batch_size = batch_size
        self._clock = clock
        self._processing = asyncio.Lock()

    async def load(self) -> None:
        """Read the buffer and the number of waiting events. Raises StoreError."""
        await self._teach(await self.store.newest_events(self._tenant_id, limit=PAGE, state="ready"))
        self.buffer.extend(await self.store.newest_events(self._tenant_id, limit=self.buffer.maxlen or 0))
        self.waiting = await self.store.count_waiting_events(self._tenant_id)

    # Arrival ---------------------------------------------------------------------------------

    async def accept(self, messages: Sequence[StreamMessage]) -> Sequence[Malformed]:
        """Store the events of messages; the malformed messages. Raises StoreError."""
        events, malformed, tenants = [], [], None
        for place, message in enumerate(messages):
            if place % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            try:
                event = read_event(message.content)
                if event.tenant_id not in (None, self._tenant_id) and tenants is None:
                    tenants = await self._tenants()
                if tenants is not None and event.tenant_id in tenants:
                    continue
                self.check(event)
            except InvalidInput as error:
                malformed.append(Malformed(place, str(error)))
            else:
                events.append(keyed(event, message.position))
        await self.add(events)
        self.counts["malformed"] += len(malformed)
        return malformed

    async def _tenants(self) -> frozenset[str]:
        """The other known tenants: their own updaters read their events in groups of their own."""
        known = () if self._learner is None else await self._learner.tenants()
        return frozenset(known) - {self._tenant_id}

    def check(self, event: StreamEvent) -> None:
        """Raise InvalidInput for an event that this inbox cannot use."""
        if event.tenant_id not in (None, self._tenant_id):
            raise InvalidInput(f"the tenant {event.tenant_id!r:.80} is unknown to this updater")
        if event.turn is None:
            return
        if self._learner is None:
            raise InvalidInput("a turn needs an updater with a learner")
        limit = self._settings.analysis.max_text_chars
        if event.turn.user_text.isspace() or len(event.turn.user_text) > limit:
            raise InvalidInput(
                f"the user text is blank, or longer than the {limit:,} characters of analysis.max_text_chars"
            )

    async def add(self, events: Sequence[NewEvent]) -> None:
        """Store events. They are on disk when this returns. Raises StoreError."""
        if not events:
            return
        added = await self.store.add_events(self._tenant_id, events, now=self._clock())
        self.counts["received"] += added
        self.counts["duplicates"] += len(events) - added
        self.waiting += added
        if self.waiting >= self._batch_size:
            self.due.set()

    # Processing ------------------------------------------------------------------------------

    async def process(self) -> None:
        """Make outcomes and turns from all waiting events. Raises StoreError."""
        async with self._processing:
            while events := await self.store.waiting_events(self._tenant_id, limit=PAGE):
                await self._collect_turns([one for one in events if one.event.turn is not None])
                outcomes = [outcome_of(one) for one in events if one.event.turn is None]
                seqs = [one.seq for one in events]
                self.counts["processed"] += await self.store.finish_events(self._tenant_id, seqs, outcomes)
                await self._teach(events)
                self.buffer.extend(events)
            self.waiting = await self.store.count_waiting_events(self._tenant_id)

    async def _teach(self, events: Sequence[InboxEvent]) -> None:
        """With a learner, count the attempts of processed events for the choice of strategies, once each.

        After a crash between two transactions, `load` repeats it.
        """
        if self._learner is not None and (tallies := tallies_of(events)):
            half_life = self._settings.strategies.half_life_s
            await self.store.learn_events(self._tenant_id, tallies, half_life_s=half_life, reset=False)

    async def prune(self) -> None:
        """Remove processed events that are older than `stream.retention_days`. Raises StoreError."""
        before = self._clock() - timedelta(days=self._settings.stream.retention_days)
        await self.store.prune_events(self._tenant_id, before=before)

    async def _collect_turns(self, events: Sequence[InboxEvent]) -> None:
        for start in range(0, len(events), TURNS_AT_ONCE):
            some = events[start : start + TURNS_AT_ONCE]
            for result in await asyncio.gather(*map(self._collect_turn, some), return_exceptions=True):
                if isinstance(result, InvalidInput):
                    self.counts["malformed"] += 1
                    logger.warning("a turn of the stream of %r is refused: %s", self._tenant_id, result)
                elif isinstance(result, BaseException):
                    raise result

    async def _collect_turn(self, one: InboxEvent) -> None:
        turn = one.event.turn
        if self._learner is None or turn is None:
            return
        await self._learner.collect_conversation_metadata(
            self._tenant_id,
            turn.user_text,
            turn.assistant_response,
            turn.user_id,
            turn.user_feedback,
            conversation_id=turn.conversation_id,
            turn_id=one.turn_id,
            occurred_at=one.at,
        )
