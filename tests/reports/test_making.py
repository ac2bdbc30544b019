"""Reports of a learner's data, on request and by schedule, under a clock that the tests move."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from karen_learner.errors import InvalidInput, StoreFull, UnknownTenant
from karen_learner.learner import AutonomousLearner
from karen_learner.records import Alert
from karen_learner.records.period_reports import StoredReport
from karen_learner.reports.making import last_period
from karen_learner.reports.part import ReportPart
from tests.autonomy.conftest import FastClock
from tests.conftest import ACME, TINY

SUNDAY = datetime(2030, 1, 6, 9, tzinfo=timezone.utc)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def clock() -> FastClock:
    return FastClock(SUNDAY - 3 * DAY)


@pytest.fixture
async def learner(tmp_path: Path, clock: FastClock) -> AsyncIterator[AutonomousLearner]:
    """A learner without a model, with a turn of each of the last 14 days."""
    async with AutonomousLearner(tmp_path / "home", overrides=TINY, clock=clock) as made:
        start, clock.now = clock.now, SUNDAY  # a turn of the future would count as now
        for day in range(14):
            await made.collect_conversation_metadata(
                ACME, f"a message {day}", "ok", f"u{day}", {"satisfaction_score": 0.5},
                occurred_at=SUNDAY - day * DAY - HOUR,
            )  # fmt: skip
        clock.now = start
        yield made


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("weekly", "2029-12-30", "2030-01-06"),
        ("monthly", "2029-12-01", "2030-01-01"),
        ("quarterly", "2029-10-01", "2030-01-01"),
    ],
)
def test_periods_are_whole_days_months_and_quarters(period: Any, start: str, end: str) -> None:
    found = last_period(period, SUNDAY)
    assert (f"{found.start:%Y-%m-%d}", f"{found.end:%Y-%m-%d}") == (start, end)


def test_a_day_begins_at_midnight_of_the_zone() -> None:
    found = last_period("weekly", datetime(2026, 3, 29, 9, tzinfo=timezone.utc), zone="Europe/Berlin")
    assert (found.end.isoformat(), found.days) == ("2026-03-29T00:00:00+01:00", 7.0)
    summer = last_period("weekly", datetime(2026, 3, 31, 9, tzinfo=timezone.utc), zone="Europe/Berlin")
    assert summer.start.isoformat() == "2026-03-24T00:00:00+01:00"
    with pytest.raises(InvalidInput, match="one of weekly"):
        last_period("daily", SUNDAY)  # type: ignore[arg-type]


async def test_a_report_shows_the_turns_of_its_period(learner: AutonomousLearner) -> None:
    made = await learner.report(ACME, at=SUNDAY, formats=["csv"])
    assert made.folder.is_relative_to(learner.layout.home / "reports")
    document = await learner.reports.document(ACME, made.report_id)
    assert document.analysis.components["understanding"].observations == 7
    with pytest.raises(UnknownTenant):
        await learner.report("nobody")
    with pytest.raises(InvalidInput, match="unknown format"):
        await learner.report(ACME, formats=["docx"])  # type: ignore[list-item]


async def test_a_report_on_request_covers_the_days_until_now(
    learner: AutonomousLearner, clock: FastClock
) -> None:
    made = await learner.report(ACME, formats=["csv"])
    assert (made.analysis_period.end, made.analysis_period.days) == (clock() + timedelta(minutes=1), 7.0)


async def test_an_analysis_is_made_again_only_for_new_data(
    learner: AutonomousLearner, clock: FastClock
) -> None:
    clock.now = SUNDAY + DAY

    async def analysis(**options: Any) -> str:
        made = await learner.report(ACME, at=SUNDAY, formats=["csv"], **options)
        return (await learner.reports.document(ACME, made.report_id)).analysis.analysis_id

    first = await analysis()
    assert await analysis(kind="technical") == first
    assert await analysis(fresh=True) != first
    seen = {first, await analysis()}
    one = await learner.collect_conversation_metadata(ACME, "one more", "ok", "u1", occurred_at=SUNDAY - DAY)
    seen.add(await analysis())
    for score in (0.1, 0.2):
        await learner.add_feedback(ACME, one.turn_id, {"satisfaction_score": score})
        seen.add(await analysis())
    await learner.collect_conversation_metadata(ACME, "later", "ok", "u1", occurred_at=SUNDAY + DAY)
    assert await analysis() in seen
    assert len(seen) == 5


class Week:
    """A part of the service whose clock moves by hours."""

    def __init__(self, learner: AutonomousLearner, clock: FastClock, **options: Any) -> None:
        self.alerts: list[Alert] = []
        self.load = 0.0
        self._learner, self._clock = learner, clock
        self.part = ReportPart(
            learner, on_alert=lambda _, alert: self.alerts.append(alert), load=lambda: self.load, **options
        )

    async def hours(self, count: float, *, step: float = 1.0) -> list[StoredReport]:
        """The reports after some hours."""
        end = self._clock() + count * HOUR
        while self._clock() < end:
            self._clock.move(step * 3600)
            await self.part.tick(self._clock())
            await self.part.drain()
            await self.part.tick(self._clock())  # writes the result
        return list((await self._learner.reports.reports(ACME)).reports)


async def status(learner: AutonomousLearner) -> str | None:
    (row,) = [one for one in await learner.store.schedules() if one.name == "weekly report"]
    return row.last_status


async def test_a_report_is_made_on_sunday_at_nine(learner: AutonomousLearner, clock: FastClock) -> None:
    week = Week(learner, clock)
    assert await week.hours(3 * 24 - 10) == []
    (made,) = await week.hours(24)
    assert made.created_at == SUNDAY
    assert made.formats == ("html", "json", "csv")
    assert (await status(learner), len(await week.hours(24 * 5, step=12))) == ("made", 1)


async def test_missed_times_are_caught_up_by_one_report_of_the_right_week(
    learner: AutonomousLearner, clock: FastClock
) -> None:
    week = Week(learner, clock)
    await week.hours(1)
    clock.move((17 * DAY).total_seconds())  # the service did not run on two Sundays
    (made,) = await week.hours(2)
    assert f"{made.analysis_period.end:%a %d %b}" == "Sun 20 Jan"


async def test_a_report_waits_under_load_for_six_hours_at_most(
    learner: AutonomousLearner, clock: FastClock
) -> None:
    week = Week(learner, clock)
    week.load = 9.0
    (made,) = await week.hours(3 * 24 + 8)
    assert made.created_at == SUNDAY + 6 * HOUR
    assert f"{made.analysis_period.end:%a %d}" == "Sun 06"


async def test_a_failed_report_is_repeated_after_1_4_and_24_hours_then_people_are_told(
    learner: AutonomousLearner, clock: FastClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[datetime] = []

    async def report(*_: Any, **__: Any) -> StoredReport:
        calls.append(clock())
        raise StoreFull("no room")

    monkeypatch.setattr(learner, "report", report)
    week = Week(learner, clock)
    await week.hours(3 * 24 + 48)
    assert [(at - SUNDAY) / HOUR for at in calls] == [0, 1, 5, 29]
    assert [alert.reading for alert in week.alerts] == ["schedule"]
    assert await status(learner) == "failed"


@pytest.mark.parametrize(("grace_s", "before"), [(30.0, 1), (0.0, 0)])
async def test_a_report_ends_before_a_stop_or_is_made_by_the_next_service(
    learner: AutonomousLearner,
    clock: FastClock,
    monkeypatch: pytest.MonkeyPatch,
    grace_s: float,
    before: int,
) -> None:
    monkeypatch.setattr("karen_learner.reports.part.GRACE_S", grace_s)
    week = Week(learner, clock)
    await week.hours(1)
    clock.now = SUNDAY
    await week.part.tick(clock())
    await week.part.stop()
    assert len((await learner.reports.reports(ACME)).reports) == before
    (made,) = await Week(learner, clock).hours(3)
    assert made.analysis_period.end == SUNDAY - 9 * HOUR


async def test_a_backup_of_the_home_has_its_reports(learner: AutonomousLearner, tmp_path: Path) -> None:
    made = await learner.report(ACME, at=SUNDAY, formats=["csv"])
    await learner.backup(tmp_path / "backup.tar.gz")
    with tarfile.open(tmp_path / "backup.tar.gz") as archive:
        assert any(name.endswith(f"{made.report_id}/report.csv") for name in archive.getnames())


async def test_old_reports_are_archived_once_a_day(learner: AutonomousLearner, clock: FastClock) -> None:
    made = await learner.report(ACME, at=clock(), formats=["csv"])
    learner.settings.reports.retention_days = 2
    await Week(learner, clock).hours(3 * 24, step=24)
    assert (await learner.reports.find(ACME, made.report_id)).archived
