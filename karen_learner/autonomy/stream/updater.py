"""`RealTimeModelUpdater`: receives events of a stream; a retraining on request learns from them.

An event is first stored in the inbox. A task processes the inbox in batches. The updater itself never trains:
with a learner a learning cycle does, without one the strategy chooser counts events.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from karen_learner.autonomy.strategies.knowledge import StrategyKnowledge
from karen_learner.autonomy.stream.agent_selection import teach_chooser
from karen_learner.autonomy.stream.events import keyed, read_event
from karen_learner.autonomy.stream.inbox import PAGE, EventInbox
from karen_learner.autonomy.stream.protocols import StreamLearner
from karen_learner.autonomy.stream.sources import kafka_source
from karen_learner.concurrency import Batcher
from karen_learner.contracts import Clock, InboxStore
from karen_learner.curation.selection import SAMPLERS
from karen_learner.disk import make_folder
from karen_learner.errors import InvalidInput
from karen_learner.memory import SqlMemoryStore, open_store
from karen_learner.monitoring.retraining import retrain_by_cycle
from karen_learner.records import RetrainingResult, check_amount, check_id, check_limit, utc_now
from karen_learner.records.strategies import StrategyRecommendation
from karen_learner.records.stream import NewEvent, StreamEvent, UpdaterMetrics
from karen_learner.settings import Settings, load_settings

if TYPE_CHECKING:
    from karen_learner.autonomy.stream.kafka import KafkaSource

logger = logging.getLogger(__name__)

BUFFERED_BATCHES = 10
"""Size of the buffer in batches."""
DATABASE = "stream.db"
PRUNE_S = 3_600.0
RETRY_S = 1.0
NOT_STARTED = "the updater is not started: use `async with`, or await start()"


class UpdateStrategy(StrEnum):
    """The sampler of events and examples (see `curation/selection.py`)."""

    EXPONENTIAL = "exponential"
    SLIDING_WINDOW = "sliding_window"
    UNIFORM = "uniform"


@dataclass(frozen=True)
class _Parts:
    """The parts of a started updater."""

    inbox: EventInbox
    knowledge: StrategyKnowledge
    submitted: Batcher[NewEvent, str]
    source: KafkaSource | None
    own_store: SqlMemoryStore | None


class RealTimeModelUpdater:
    """Receives events of one tenant, from Kafka and from `submit`. It is a `ModelUpdater` for monitors.

    With a learner, events become outcomes and turns in its store, and `retrain` runs a learning cycle.
    Without one, a database in `model_storage_path` keeps them (or `store`), and `retrain` teaches the chooser
    of `recommend`. A batch is processed when `batch_size` events wait, and every `batch_timeout_seconds`. The
    buffer holds the newest 10 x `batch_size` events. With `enable_auto_save`, the chooser is synchronised
    with the store every `save_interval_seconds`, else by `retrain` and `stop` alone. `update_strategy`
    selects the events of a retraining, and the examples of the tenant's cycles. `kafka_servers` needs the
    extra `kafka`; `settings` has its section `[stream]`. Raises InvalidInput for impossible arguments.
    """

    def __init__(
        self,
        kafka_servers: str | Sequence[str] | None = None,
        kafka_topic: str = "agent-outcomes",
        *,
        learner: StreamLearner | None = None,
        tenant_id: str = "default",
        batch_size: int = 10,
        batch_timeout_seconds: float = 30,
        model_storage_path: Path | str = "./models",
        enable_auto_save: bool = True,
        save_interval_seconds: float = 300,
        update_strategy: UpdateStrategy = UpdateStrategy.EXPONENTIAL,
        store: InboxStore | None = None,
        settings: Settings | None = None,
        clock: Clock = utc_now,
    ) -> None:
        if check_limit(batch_size, "batch_size") < 1:
            raise InvalidInput("batch_size must be at least 1")
        self.tenant_id = check_id(tenant_id, "tenant_id")
        self.update_strategy = _update_strategy(update_strategy)
        self._servers = _servers(kafka_servers)
        self._topic = check_id(kafka_topic, "kafka_topic")
        self._learner = learner
        self._given_store = learner.store if learner is not None else store
        self._settings = settings or (learner.settings if learner is not None else load_settings())
        self._folder = Path(model_storage_path).absolute()
        self._batch_size = batch_size
        self._batch_timeout_s = _seconds(batch_timeout_seconds, "batch_timeout_seconds")
        interval = _seconds(save_interval_seconds, "save_interval_seconds")
        self._save_s = interval if enable_auto_save else float("inf")
        self._clock = clock
        self._parts: _Parts | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._retrainings = 0
        self._last_retraining: RetrainingResult | None = None

    # Lifecycle -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Open the store, load the buffer, and start the tasks. Idempotent. Raises StoreError, SettingsError.

        A Kafka broker that is not there is no error: the updater connects when it comes.
        """
        if self._task is not None:
            return
        own = await self._open_own_store()
        try:
            self._parts = parts = await self._make_parts(own)
            if parts.source is not None:
                parts.source.start()
        except BaseException:
            if own is not None:
                await own.close()
            raise
        if self._learner is not None:
            self._learner.use_sampler(self.tenant_id, self.update_strategy.value)
        self._stopping = False
        self._task = asyncio.create_task(self._run(parts))

    async def _open_own_store(self) -> SqlMemoryStore | None:
        """The updater's own database, if it needs one."""
        if self._learner is not None:
            await self._learner.start()
        if self._given_store is not None:
            return None
        make_folder(self._folder)
        own = open_store(self._folder / DATABASE, self._settings.store)
        await own.start()
        return own

    async def _make_parts(self, own: SqlMemoryStore | None) -> _Parts:
        store = own or self._given_store
        if store is None:
            raise InvalidInput(NOT_STARTED)
        inbox = EventInbox(
            store,
            self._learner,
            tenant_id=self.tenant_id,
            settings=self._settings,
            batch_size=self._batch_size,
            capacity=BUFFERED_BATCHES * self._batch_size,
            clock=self._clock,
        )
        await inbox.load()
        knowledge = StrategyKnowledge(
            self._settings.strategies, tenant_id=self.tenant_id, store=store, clock=self._clock
        )
        await knowledge.sync()

        async def add(events: Sequence[NewEvent]) -> Sequence[str]:
            await inbox.add(events)
            return [one.key for one in events]

        owner = f"the updater of {self.tenant_id!r}"
        submitted = Batcher(add, queue_size=PAGE, max_batch=PAGE, owner=owner)
        source = None if self._servers is None else self._make_source(self._servers, inbox)
        return _Parts(inbox, knowledge, submitted, source, own)

    def _make_source(self, servers: str, inbox: EventInbox) -> KafkaSource:
        settings = self._settings.stream
        return kafka_source(
            servers,
            self._topic,
            group=f"karen-learner-{self.tenant_id}",
            settings=settings,
            accept=inbox.accept,
            is_full=lambda: inbox.waiting >= settings.max_waiting,
        )

    async def stop(self) -> None:
        """End the source, process the inbox, and store the chooser. Idempotent."""
        task, self._task = self._task, None
        parts = self._parts
        if task is None or parts is None:
            return
        if parts.source is not None:
            await parts.source.stop()
        await parts.submitted.close()
        self._stopping = True
        parts.inbox.due.set()
        await task
        await parts.knowledge.sync()
        if parts.own_store is not None:
            await parts.own_store.close()

    @property
    def running(self) -> bool:
        return self._task is not None

    async def _run(self, parts: _Parts) -> None:
        saved = pruned = time.monotonic()
        while not self._stopping:
            try:
                async with asyncio.timeout(min(self._batch_timeout_s, self._save_s)):
                    await parts.inbox.due.wait()
            except TimeoutError:
                pass
            parts.inbox.due.clear()
            try:
                await parts.inbox.process()
                if time.monotonic() - saved >= self._save_s:
                    saved = time.monotonic()
                    await parts.knowledge.sync()
                if time.monotonic() - pruned >= PRUNE_S:
                    pruned = time.monotonic()
                    await parts.inbox.prune()
            except Exception:  # the events stay in the inbox: the next round processes them
                logger.exception("events of %r cannot be processed: trying again", self.tenant_id)
                await asyncio.sleep(0.0 if self._stopping else RETRY_S)

    def _started(self) -> _Parts:
        if self._parts is None or self._task is None:
            raise InvalidInput(NOT_STARTED)
        return self._parts

    # Events ----------------------------------------------------------------------------------

    async def submit(self, event: Mapping[str, Any] | StreamEvent) -> str:
        """Store an event in the inbox, and return its idempotency key. It is on disk when this returns.

        Raises InvalidInput for a malformed event or another tenant's, and StoreError.
        """
        parts = self._started()
        read = read_event(event)
        parts.inbox.check(read)
        return await parts.submitted.submit(keyed(read))

    def get_metrics(self) -> UpdaterMetrics:
        """The state of the updater and of its source."""
        parts, last = self._parts, self._last_retraining
        counts: Mapping[str, int] = {} if parts is None else parts.inbox.counts
        return UpdaterMetrics(
            running=self.running,
            update_strategy=self.update_strategy.value,
            event_buffer_size=0 if parts is None else len(parts.inbox.buffer),
            event_buffer_capacity=BUFFERED_BATCHES * self._batch_size,
            waiting=0 if parts is None else parts.inbox.waiting,
            events_received=counts.get("received", 0),
            duplicates=counts.get("duplicates", 0),
            events_processed=counts.get("processed", 0),
            malformed=counts.get("malformed", 0),
            retrainings=self._retrainings,
            last_retraining=None if last is None else last.to_dict(),
            source={} if parts is None or parts.source is None else parts.source.metrics(),
        )

    # Retraining ------------------------------------------------------------------------------

    def recommend(self, domain: str) -> StrategyRecommendation:
        """The strategy of the next attempt in a domain, as of the last retraining. Raises InvalidInput."""
        return self._started().knowledge.recommend(domain)

    async def retrain(
        self, reason: str = "Manual trigger", force_full_retrain: bool = False
    ) -> RetrainingResult:
        """Run a learning cycle; without a learner, teach the chooser.

        The chooser learns up to 100 recent events that it has not learned. With `force_full_retrain` it
        forgets all attempts and learns the buffer. `message` warns of fewer than 50 events. Raises
        StoreError, and InvalidInput before `start()`.
        """
        parts = self._started()
        await parts.inbox.process()
        if self._learner is not None:
            result = await retrain_by_cycle(
                self._learner, self.tenant_id, reason=reason, full=force_full_retrain
            )
        else:
            result = await teach_chooser(
                parts.inbox.store,
                parts.knowledge,
                self.tenant_id,
                reason=reason,
                buffer=list(parts.inbox.buffer) if force_full_retrain else None,
                sampler=SAMPLERS.find(self.update_strategy.value),
                half_life_s=self._settings.strategies.half_life_s,
            )
        self._retrainings += 1
        self._last_retraining = result
        return result


def _servers(given: str | Sequence[str] | None) -> str | None:
    names = [given] if isinstance(given, str) else list(given or ())
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise InvalidInput("kafka_servers must be host:port, or a list of them")
    return ",".join(names) or None


def _seconds(value: float, name: str) -> float:
    if check_amount(value, name) == 0:
        raise InvalidInput(f"{name} must be above 0")
    return value


def _update_strategy(given: str) -> UpdateStrategy:
    try:
        return UpdateStrategy(given)
    except ValueError:
        raise InvalidInput(
            f"unknown update_strategy {given!r:.60}: use {', '.join(UpdateStrategy)}"
        ) from None
