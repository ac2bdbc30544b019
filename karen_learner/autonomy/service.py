"""The autonomous service of a home: its parts, one tick after the other, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta

from karen_learner.autonomy.parts import AlertSink, CycleQueue, Part, ServedLearner
from karen_learner.autonomy.scheduler import FULL, Scheduler
from karen_learner.autonomy.triggers.part import TriggerPart
from karen_learner.contracts import Clock
from karen_learner.errors import FencedOut, KarenLearnerError, StoreLocked
from karen_learner.memory import holder_of, owner_of
from karen_learner.monitoring.readings import Readings
from karen_learner.records import Alert, Lease, utc_now
from karen_learner.records.triggers import TriggerTick

logger = logging.getLogger(__name__)

HOME = ""
"""The tenant of leases and states that belong to the home."""
LEASE = "service"
LEASE_TTL = timedelta(minutes=2)
RENEW_S = 20.0
GRACE_S = 30.0
"""Seconds that a running cycle has to end after a request to stop."""

MakePart = Callable[["AutonomousService"], Part]


class AutonomousService:
    """Monitors, evaluates triggers, and runs schedules for the tenants of a home. One service per home.

    `tenants` are all by default. `parts` make further parts, which tick after the triggers. `on_alert`
    receives alerts; by default they are logged. Use `run()`, or `async with` and `tick()`. Raises
    SettingsError, and StoreLocked while another service runs on this home.
    """

    def __init__(
        self,
        learner: ServedLearner,
        *,
        tenants: Sequence[str] = (),
        parts: Sequence[MakePart] = (),
        on_alert: AlertSink | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.learner = learner
        self.clock = clock
        self.on_alert = on_alert or _log_alert
        self.queue = CycleQueue(learner)
        self.readings = Readings(learner.store, learner.layout, learner.settings)
        self._tenants = tuple(tenants)
        self.triggers = TriggerPart(
            learner.store, self.readings, self.queue, learner.settings.triggers, tenants=self._tenants
        )
        schedule = learner.settings.schedule
        self.scheduler = Scheduler(
            learner.store,
            self.queue,
            {"cron": schedule.cron, FULL: schedule.full_cron},
            zone=schedule.zone,
            tenants=self._tenants,
            on_alert=self.on_alert,
            on_due=self._wake,
        )
        self._parts: list[Part] = [self.triggers, self.scheduler, *(make(self) for make in parts)]
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._closing = AsyncExitStack()
        self._lease: Lease | None = None

    async def __aenter__(self) -> AutonomousService:
        await self.learner.start()
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(self._hold_home())
            for part in self._parts:
                await part.start()
                opened.push_async_callback(part.stop)
            opened.push_async_callback(self.queue.stop, grace_s=GRACE_S)
            self._closing = opened.pop_all()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._closing.aclose()

    async def tenants(self) -> Sequence[str]:
        """The tenants of this service."""
        return self._tenants or await self.learner.store.tenants()

    async def tick(self) -> None:
        """Compute the readings of all tenants, then let each part act.

        A failing part ends no other, and a tenant whose readings fail keeps no other one waiting.
        """
        now = self.clock()
        for tenant_id in await self.tenants():
            try:
                await self.readings.refresh(tenant_id, now)
            except Exception:  # rows of one tenant, or readings of hosts: the other tenants go on
                logger.exception("the readings of %r failed", tenant_id)
        for part in self._parts:
            try:
                await part.tick(now)
            except KarenLearnerError as error:
                logger.error("%s failed: %s", type(part).__name__, error)
            except Exception:  # parts of hosts: the others go on
                logger.exception("%s failed", type(part).__name__)

    async def preview(self) -> list[TriggerTick]:
        """The results of the condition trees now. Nothing is stored, except outcomes; no cycle begins."""
        await self.learner.start()
        now, found = self.clock(), []
        for tenant_id in await self.tenants():
            await self.readings.refresh(tenant_id, now)
            found.append(await self.triggers.evaluate(tenant_id, now))
        return found

    def stop(self) -> None:
        """End `run` after the present tick. A running cycle has `GRACE_S` seconds to end."""
        self._stopping.set()
        self._woken.set()

    async def run(self, *, once: bool = False) -> None:
        """Tick until `stop()`, SIGTERM or SIGINT. With `once`: one tick, and its cycles until their end."""
        async with self:
            with _stopping_at_signals(self.stop):
                while not self._stopping.is_set():
                    await self._tick_and_log()
                    if once:
                        await self._until_idle()
                        break
                    await self._sleep()

    async def _until_idle(self) -> None:
        """Wait for queued cycles, or for a request to stop; then write the results of schedules."""
        waiting = [asyncio.create_task(self.queue.drain()), asyncio.create_task(self._stopping.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await self.scheduler.record_results(self.clock())

    async def _tick_and_log(self) -> None:
        try:
            await self.tick()
        except FencedOut:
            raise
        except KarenLearnerError as error:  # the next tick may succeed
            logger.error("a tick of the autonomous service failed: %s", error)

    async def _sleep(self) -> None:
        """Wait for the next tick, the next scheduled run, or a request to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), self.learner.settings.triggers.tick_s)
        self._woken.clear()

    async def _wake(self) -> None:
        self._woken.set()

    @asynccontextmanager
    async def _hold_home(self) -> AsyncIterator[None]:
        """Hold the lease of the home. Raises StoreLocked if another service has it."""
        store, owner = self.learner.store, owner_of(os.getpid())
        lease = await store.acquire_lease(HOME, owner, name=LEASE, ttl=LEASE_TTL)
        if lease is None:
            held = await store.lease(HOME, name=LEASE)
            holder = "another process" if held is None else holder_of(held.owner)
            raise StoreLocked(
                f"another autonomous service runs on this home ({holder}): stop it first, or let it work"
            )
        self._lease = lease
        renewing = asyncio.create_task(self._renew(lease))
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await store.release_lease(lease)

    async def _renew(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self.learner.store.renew_lease(lease, ttl=LEASE_TTL)
            except FencedOut:
                logger.error("another service took over this home: this one stops")
                self.stop()
                return
            except KarenLearnerError as error:
                logger.warning("the lease of the service cannot be renewed yet: %s", error)


def _log_alert(tenant_id: str, alert: Alert) -> None:
    logger.warning("alert of %r: %s", tenant_id, alert.message)


@contextmanager
def _stopping_at_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at SIGTERM and SIGINT while the block runs; only in the main thread."""
    loop, handled = asyncio.get_running_loop(), []
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(number, stop)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
