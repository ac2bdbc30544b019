"""The stream of changes names what changed since the page was made, and ends when the service stops."""

from __future__ import annotations

import asyncio
import math

import pytest

from karen_learner.learner import AutonomousLearner
from karen_learner.records import utc_now
from karen_learner.records.incidents import Incident
from karen_learner.service.dashboard.state import Changes
from karen_learner.service.streams import WakeQueue
from tests.conftest import ACME

PATIENCE_S = 60.0


@pytest.fixture
def store_kind() -> str:
    return "file"


async def yes() -> bool:
    return True


async def following(changes: Changes, seen: str = "") -> tuple[asyncio.Queue[str], asyncio.Task[None]]:
    """The kinds that a stream tells, once it listens."""
    found: asyncio.Queue[str] = asyncio.Queue()

    async def follow() -> None:
        async for kind in changes.of(ACME, seen, may_go_on=yes):
            found.put_nowait(kind)

    task = asyncio.create_task(follow())
    while not changes._watchers:
        await asyncio.sleep(0.01)
    return found, task


async def collect(learner: AutonomousLearner) -> None:
    await learner.collect_conversation_metadata(ACME, "good morning", "", "ann")


async def add_incident(learner: AutonomousLearner) -> None:
    now = utc_now()
    times = {"opened_at": now, "updated_at": now, "next_at": now}
    await learner.store.save_incident(
        Incident(tenant_id=ACME, type="latency", severity="warning", **times)  # type: ignore[arg-type]
    )


async def note(learner: AutonomousLearner) -> None:
    champion = await learner.store.champion(ACME)
    assert champion is not None
    await learner.note_version(ACME, champion.version, "checked")


@pytest.mark.parametrize(
    ("change", "kind"), [(collect, "traffic"), (add_incident, "incidents"), (note, "cycles")]
)
async def test_a_change_of_any_process_is_named(acme: AutonomousLearner, change, kind: str) -> None:
    stopping = asyncio.Event()
    found, task = await following(Changes(acme.store, stopping, poll_s=0.01))
    await change(acme)
    assert await asyncio.wait_for(found.get(), PATIENCE_S) == kind
    stopping.set()
    await asyncio.wait_for(task, PATIENCE_S)


async def test_a_change_between_the_page_and_its_stream_is_named(acme: AutonomousLearner) -> None:
    changes = Changes(acme.store, asyncio.Event(), poll_s=3600.0)
    seen = await changes.seen(ACME)
    await collect(acme)
    found, task = await following(changes, seen)
    assert await asyncio.wait_for(found.get(), PATIENCE_S) == "traffic"
    await note(acme)
    changes.read_now()
    assert await asyncio.wait_for(found.get(), PATIENCE_S) == "cycles"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not changes._watchers


async def test_a_client_that_never_reads_holds_each_kind_once(acme: AutonomousLearner) -> None:
    changes = Changes(acme.store, asyncio.Event(), poll_s=0.001)
    stream = changes.of(ACME, "a.b.c", may_go_on=yes)
    assert await asyncio.wait_for(anext(stream), PATIENCE_S) == "cycles"
    for _ in range(20):
        await collect(acme)
        await asyncio.sleep(0.01)
    (watcher,) = changes._watchers[ACME]
    assert watcher.kinds <= {"cycles", "incidents", "traffic"}
    await stream.aclose()
    assert not changes._watchers


async def test_traffic_is_told_to_one_page_after_another_and_a_new_version_to_all(
    acme: AutonomousLearner,
) -> None:
    changes = Changes(acme.store, asyncio.Event(), poll_s=3600.0)
    changes._traffic_queue = WakeQueue(every_s=3600.0, within_s=math.inf)
    seen = await changes.seen(ACME)
    await collect(acme)
    first, _ = await following(changes, seen)
    assert await asyncio.wait_for(first.get(), PATIENCE_S) == "traffic"
    second, _ = await following(changes, seen)
    while len(changes._watchers[ACME]) < 2:
        await asyncio.sleep(0.01)
    await note(acme)
    changes.read_now()
    assert await asyncio.wait_for(first.get(), PATIENCE_S) == "cycles"
    assert [await asyncio.wait_for(second.get(), PATIENCE_S) for _ in range(2)] == ["cycles", "traffic"]
