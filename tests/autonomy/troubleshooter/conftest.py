"""Troubleshooters of the taught home, with a clock that tests move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from karen_learner.autonomy.troubleshooter import AutomatedTroubleshooter
from karen_learner.learner import AutonomousLearner
from karen_learner.records import Outcome, utc_now
from karen_learner.records.incidents import Incident, Issue
from tests.conftest import ACME


@dataclass
class Patient:
    """A learner with a troubleshooter. `pass_time` moves the clock and ticks."""

    learner: AutonomousLearner
    troubleshooter: AutomatedTroubleshooter
    now: datetime

    async def pass_time(self, **time: float) -> list[Issue]:
        self.now += timedelta(**time) if time else timedelta(minutes=2)
        return list(await self.troubleshooter.tick(self.now))

    async def incident(self, kind: str) -> Incident:
        [found] = [one for one in await self.troubleshooter.incidents() if one.type == kind]
        return found

    async def story(self, kind: str) -> list[str]:
        return [entry.text for entry in (await self.incident(kind)).story]

    async def attempt(self, successes: list[bool], *, strategy: str = "llm", **values: Any) -> None:
        """Outcomes of attempts that end now, one after the other."""
        outcomes = [
            Outcome(
                known_at=self.now + timedelta(milliseconds=at),
                source="agent_run",
                agent="planner",
                strategy=strategy,
                domain="billing",
                success=success,
                **values,
            )
            for at, success in enumerate(successes, start=1)
        ]
        await self.learner.store.add_outcomes(ACME, outcomes)


MakePatient = Callable[..., Patient]


@pytest.fixture
def make_patient() -> MakePatient:
    """Troubleshooters of a learner with the named diagnoses. Keywords are settings of the troubleshooter."""

    def make(learner: AutonomousLearner, *diagnoses: str, **values: Any) -> Patient:
        learner.settings.troubleshooter.update({"diagnoses": diagnoses, **values})
        made = Patient(learner, AutomatedTroubleshooter(learner, tenant_id=ACME), utc_now())
        made.troubleshooter._clock = lambda: made.now
        return made

    return make
