"""Reports in their folder: atomic, private, listed, set aside, archived."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from karen_learner import blocking
from karen_learner.errors import InvalidInput, StoreFull, StoreReadOnly, UnknownReport
from karen_learner.records.improvement import AnalysisPeriod
from karen_learner.records.period_reports import StoredReport
from karen_learner.reports import ReportManager
from karen_learner.reports import archive as archives
from tests.reports.specimens import END, WEEK, a_week, recommendation

DAY = timedelta(days=1)


class Days:
    """A clock that a test moves by days."""

    def __init__(self) -> None:
        self.now = END

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def days() -> Days:
    return Days()


@pytest.fixture
def manager(tmp_path: Path, days: Days) -> ReportManager:
    return ReportManager(tmp_path / "reports", currency="EUR", clock=days)


async def three_weeks(manager: ReportManager, days: Days) -> list[StoredReport]:
    """A report a week, oldest first."""
    made = []
    for week in range(3):
        days.now = END + 7 * week * DAY
        period = AnalysisPeriod(start=WEEK.start + 7 * week * DAY, end=WEEK.end + 7 * week * DAY)
        made.append(await manager.generate_executive_summary(a_week(period=period), formats=["html", "csv"]))
    return made


async def test_a_report_is_stored_below_its_date_for_this_user_only(manager: ReportManager) -> None:
    made = await manager.generate_executive_summary(a_week(), [recommendation()], formats=["html", "json"])
    assert made.folder.parent.name == "2030-01-06"
    assert made.formats == ("html", "json")
    assert {path.name for path in made.folder.iterdir()} == {"metadata.json", "report.json", "report.html"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (made.folder, *made.folder.iterdir()))
    assert json.loads(await manager.content("telecom", made.report_id, "json"))["headline"]


@pytest.mark.parametrize(
    "tenant_id", ["../../outside", "/etc", "a/b\\c", "..", "CON", "x" * 900, "\N{PILE OF POO}"]
)
async def test_no_name_of_a_tenant_leaves_the_folder(manager: ReportManager, tenant_id: str) -> None:
    made = await manager.generate_technical_report(a_week(tenant_id=tenant_id), formats=["csv"])
    assert made.folder.resolve().is_relative_to(manager.folder.resolve())
    assert (await manager.reports(tenant_id)).reports == (made,)


@pytest.mark.parametrize("report_id", ["../telecom", "..", "", "x" * 32, "%2e%2e", "a" * 33, "abcd/..", "*"])
async def test_an_id_is_no_path(manager: ReportManager, report_id: str) -> None:
    await manager.generate_executive_summary(a_week())
    with pytest.raises(UnknownReport):
        await manager.content("telecom", report_id, "html")


async def test_reports_of_others_are_unknown(manager: ReportManager) -> None:
    made = await manager.generate_executive_summary(a_week())
    with pytest.raises(UnknownReport):
        await manager.find("another", made.report_id)


async def test_the_end_of_an_id_suffices_if_it_fits_one_report(manager: ReportManager, days: Days) -> None:
    made = await three_weeks(manager, days)
    assert (await manager.find("telecom", made[1].report_id[-8:])).report_id == made[1].report_id


async def test_arguments_are_checked_before_anything_is_written(manager: ReportManager) -> None:
    for results, formats in ((a_week(), ["docx"]), (a_week(), "html"), ({"x": 1}, ["html"])):
        with pytest.raises(InvalidInput):
            await manager.generate_executive_summary(results, formats=formats)  # type: ignore[arg-type]
    assert not manager.folder.exists()


async def test_damaged_reports_are_set_aside_listed_and_removed_later(
    manager: ReportManager, days: Days
) -> None:
    first, second, third = await three_weeks(manager, days)
    (first.folder / "metadata.json").write_text("{")
    (second.folder / "report.json").write_text('{"headline": 7}')
    with pytest.raises(UnknownReport, match="damaged and was set aside"):
        await manager.document("telecom", second.report_id)
    listed = await manager.reports("telecom")
    assert [one.report_id for one in listed.reports] == [third.report_id]
    assert [name[-32:] for name in listed.damaged] == [first.report_id, second.report_id]
    days.now = datetime.now(timezone.utc) + 91 * DAY
    assert (await manager.archive_old_reports()).removed_damaged == 2
    assert (await manager.reports("telecom")).damaged == ()


async def test_old_reports_keep_their_compressed_document(manager: ReportManager, days: Days) -> None:
    first, _, third = await three_weeks(manager, days)
    page = await manager.content("telecom", first.report_id, "html")
    done = await manager.archive_old_reports(retention_days=10)
    assert done.archived == (first.report_id,)
    assert done.freed_bytes > 0
    assert {path.name for path in first.folder.iterdir()} == {"metadata.json", "report.json.gz"}
    assert (await manager.find("telecom", first.report_id)).archived
    assert await manager.content("telecom", first.report_id, "html") == page
    assert (await manager.find("telecom", third.report_id)).formats == ("html", "json", "csv")
    assert (await manager.archive_old_reports(retention_days=10)).archived == ()
    with pytest.raises(InvalidInput, match="retention_days"):
        await manager.archive_old_reports(retention_days=-1)


async def test_leftovers_of_a_crash_are_no_reports(manager: ReportManager) -> None:
    made = await manager.generate_executive_summary(a_week())
    left = made.folder.parent.parent / ".staging" / "one"
    left.mkdir()
    assert len((await manager.reports("telecom")).reports) == 1
    os.utime(left, (0, 0))
    await manager.archive_old_reports()
    assert not left.exists()


class FullDisk:
    """Writing a report fails until older ones are archived."""

    def __init__(self, patch: pytest.MonkeyPatch, *, for_good: bool = False) -> None:
        real = archives.open_private

        def write(path: Path, mode: str = "w") -> Any:
            if ".staging" in str(path) and (for_good or any(path.parents[2].rglob("report.html"))):
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, mode)

        patch.setattr(archives, "open_private", write)


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as made:
        yield made


async def test_a_full_disk_archives_older_reports_and_says_so(
    manager: ReportManager, days: Days, patch: pytest.MonkeyPatch
) -> None:
    older = await three_weeks(manager, days)
    days.now += 7 * DAY
    FullDisk(patch)
    made = await manager.generate_executive_summary(a_week(), formats=["csv"])
    assert any("disk was full" in note for note in made.notes)
    listed = (await manager.reports("telecom")).reports
    assert [one.archived for one in listed] == [False, True, True, True]
    assert len(listed) == len(older) + 1


async def test_a_disk_that_stays_full_is_an_error_without_leftovers(
    manager: ReportManager, patch: pytest.MonkeyPatch
) -> None:
    FullDisk(patch, for_good=True)
    with pytest.raises(StoreFull, match="no room for a report"):
        await manager.generate_executive_summary(a_week())
    assert not [
        path for path in manager.folder.rglob("*") if path.is_file() or path.parent.name == ".staging"
    ]


async def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(StoreReadOnly):
        await ReportManager(tmp_path / "reports").generate_executive_summary(a_week())


async def test_a_dashboard_shows_the_stored_periods(manager: ReportManager, days: Days) -> None:
    await three_weeks(manager, days)
    page = await manager.create_dashboard(tenant_id="telecom")
    assert page.read_text(encoding="utf-8").count("3 periods") == 7
    assert await manager.create_dashboard([a_week()]) == page
    for useless in ([a_week(), a_week(tenant_id="another")], [7], []):
        with pytest.raises(InvalidInput):
            await manager.create_dashboard(useless)  # type: ignore[arg-type]


def test_the_synchronous_twin(tmp_path: Path) -> None:
    with blocking.ReportManager(tmp_path / "reports") as manager:
        made = manager.generate_executive_summary(a_week(), formats=["csv"])
        assert manager.reports("telecom").reports == (made,)
        assert manager.archive_old_reports(retention_days=0).archived == (made.report_id,)
