"""The stream of the autonomous service: one consumer for the tenants of a home, on a mock cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from karen_learner import create_autonomous_learner
from karen_learner.autonomy.stream.part import StreamPart
from karen_learner.autonomy.troubleshooter import AutomatedTroubleshooter
from karen_learner.learner import AutonomousLearner
from karen_learner.records import utc_now
from tests.autonomy.brokers import FAST, WAIT_S, Brokers, until
from tests.conftest import ACME, TINY

EARLY = datetime(2000, 1, 1, tzinfo=timezone.utc)
NOWHERE = "127.0.0.1:1"


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "agent_name": "llm", "domain": "billing", "success": True} | more


@pytest.fixture(scope="module")
def brokers() -> Brokers:
    return Brokers()


@pytest.fixture
def servers(brokers: Brokers) -> str:
    return brokers.servers


@pytest.fixture
async def learner(taught_home: Path, servers: str, tmp_path: Path) -> AsyncIterator[AutonomousLearner]:
    name = tmp_path.name  # unique among the tests of a cluster
    stream = {"stream": {"servers": servers, "topic": name, "group": name, "tenant": ACME, "kafka": FAST}}
    async with create_autonomous_learner(taught_home, overrides={**TINY, **stream}) as made:
        yield made


async def test_events_of_all_tenants_become_outcomes_and_teach_strategies_once(
    learner: AutonomousLearner, brokers: Brokers
) -> None:
    topic, other = learner.settings.stream.topic, "other"
    await learner.collect_conversation_metadata(other, "hello", "hi", "ann")
    events = [event(0), event(0), event(1, success=False), event(2, tenant_id=other), event(3, tenant_id="x")]
    turn = {"user_text": "what is my balance", "user_id": "ann"}
    await asyncio.to_thread(brokers.send, topic, *events, {"agent_name": "chat", "turn": turn})
    part = StreamPart(learner)
    for is_first in (True, False):  # a restart counts nothing again
        await part.start()
        await until(lambda: part.get_metrics()["source"]["connected"])
        if is_first:
            async with asyncio.timeout(WAIT_S):  # partitions may come in different batches
                while await asyncio.to_thread(brokers.committed, topic, topic) < 1 + len(events):
                    await asyncio.sleep(0.05)
        await until(lambda: part.get_metrics()["waiting"] == 0)
        await part.stop()
        assert not part.get_metrics()["running"]
    outcomes = [await learner.store.newest_outcomes(name, since=EARLY, limit=9) for name in (ACME, other)]
    assert [sorted([one.success for one in found]) for found in outcomes] == [[False, True], [True]]
    for tenant_id, counts in ((ACME, {"success": 1.0, "failure": 1.0}), (other, {"success": 1.0})):
        [tally] = (await learner.store.strategies(tenant_id)).tallies
        assert (tally.domain, tally.name) == ("billing", "llm")
        assert {name: one for name, one in tally.counts.items() if one} == pytest.approx(counts, abs=0.01)
    assert (await learner.store.counts(ACME)).turns == 1
    letters = await asyncio.to_thread(brokers.read, f"{topic}.dead-letter", count=1)
    assert [headers["reason"] for _, headers in letters] == ["the tenant 'x' is unknown"]


@pytest.mark.parametrize("servers", [NOWHERE])
async def test_a_broker_that_is_not_there_is_an_incident(learner: AutonomousLearner) -> None:
    learner.settings.troubleshooter.update({"diagnoses": ["stream_down"]})
    part = StreamPart(learner)
    await part.start()
    await until(lambda: part.get_metrics()["source"]["last_error"] is not None)
    troubleshooter = AutomatedTroubleshooter(learner, stream=part)
    [issue] = await troubleshooter.tick(utc_now())
    assert (issue.type, issue.severity, issue.tenant_id) == ("stream_down", "critical", None)
    [incident] = await troubleshooter.incidents()
    assert incident.attempts == {"restart_stream": 1}
    await troubleshooter.stop()
    await part.stop()
