"""A week of simulated life: users ask for a new topic, a deployment learns it, a report tells its effect."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path

from karen_learner.autonomy.improvement_part import ImprovementPart
from karen_learner.autonomy.service import AutonomousService
from karen_learner.learner import AutonomousLearner, create_autonomous_learner
from karen_learner.records import utc_now
from karen_learner.records.period_reports import StoredReport
from karen_learner.reports.part import ReportPart
from tests.autonomy.conftest import FastClock
from tests.conftest import ACME, PHRASES, TINY

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CANCEL = "cancel the contract {} now"
USERS, TURNS_AN_HOUR, STEP = 40, 4, 6
THINGS = [
    f"{color} {thing}" for color in ("teal", "mauve", "khaki", "azure") for thing in ("one", "two", "four")
]
SETTINGS = {
    **TINY,
    "impact.holdback_share": 0.3,
    "impact.window_days": 2,
    "impact.answer_value": 0.5,
    "reports.currency": "EUR",
    "triggers.condition": {"all": ["manual"]},
}


class World:
    """Users of a chat product. Every fourth message is about a topic that the first model does not know."""

    def __init__(self, learner: AutonomousLearner, clock: FastClock) -> None:
        self.learner, self.clock = learner, clock
        self._random = random.Random(7)
        self.part = ReportPart(learner, load=lambda: 0.0)
        self.service = AutonomousService(
            learner, parts=[ImprovementPart.join, lambda _: self.part], clock=clock
        )

    async def live_until(self, end: datetime) -> None:
        async with self.service:
            while self.clock() < end:
                self.clock.move(STEP * 3600)
                for _ in range(STEP * TURNS_AN_HOUR):
                    await self._turn()
                await self.service.tick()
                await self.part.drain()

    async def _turn(self) -> None:
        phrase, intent = self._random.choice([(CANCEL, "cancel"), *((p, i) for i, p in PHRASES.items())])
        text, user = phrase.format(self._random.choice(THINGS)), f"user{self._random.randrange(USERS)}"
        found = await self.learner.analyze(ACME, text, user_id=user)
        right = found.intent == intent
        feedback = (
            {"satisfaction_score": 1.0} if right else {"corrected_intent": intent, "satisfaction_score": 0.2}
        )
        await self.learner.collect_conversation_metadata(
            ACME, text, "done", user, feedback, occurred_at=self.clock() - HOUR * self._random.random()
        )

    async def newest(self) -> StoredReport:
        return (await self.learner.reports.reports(ACME)).reports[0]


async def test_a_report_tells_the_effect_of_a_deployment(taught_home: Path) -> None:
    now = utc_now()
    # The simulated week begins after the home was made, on each day of the week.
    sunday = (now + (6 - now.weekday()) * DAY).replace(hour=9, minute=0) + 14 * DAY
    clock = FastClock(sunday - 8 * DAY)
    async with create_autonomous_learner(taught_home, overrides=SETTINGS, clock=clock) as learner:
        world = World(learner, clock)
        await world.live_until(sunday - 6 * DAY)
        deployed = await learner.trigger_learning_cycle(ACME)
        assert deployed.status == "deployed", [c for c in deployed.verdict.checks if not c.passed]
        await world.live_until(sunday + 4 * HOUR)
        made = await world.newest()
        report = await learner.reports.document(ACME, made.report_id)
    assert made.period == "weekly"
    (ticket,) = report.tickets
    assert (ticket.version, ticket.status) == (deployed.model_version, "measured")
    (effect, *_) = report.better
    assert effect.causal
    assert effect.low is not None
    assert effect.low > 0.0
    assert report.roi_estimate is not None
    assert report.roi_estimate.roi.gain > 0.0
    assert "brought" in report.headline
    assert "cost is not recorded" in report.headline
    page = made.path("html")
    assert page is not None
    assert "compared with users of the old version" in page.read_text(encoding="utf-8")
