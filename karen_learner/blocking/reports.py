"""Reports for synchronous code."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from karen_learner.blocking.portal import Blocking, Portal, blocking
from karen_learner.reports import ReportManager as AsyncManager


class ReportManager(Blocking[AsyncManager]):
    """`reports.ReportManager` for synchronous code. Its arguments lack `clock`. `close()` ends its thread."""

    def __init__(self, output_directory: Path | str = "reports", *, currency: str = "") -> None:
        super().__init__(AsyncManager(output_directory, currency=currency))

    @classmethod
    def of(cls, twin: AsyncManager, portal: Portal) -> Self:
        """The synchronous form of a manager, in the portal of its learner."""
        made = cls.__new__(cls)
        Blocking.__init__(made, twin, portal)
        return made

    @property
    def folder(self) -> Path:
        """The folder of all reports."""
        return self._twin.folder

    generate_executive_summary = blocking(AsyncManager.generate_executive_summary)
    generate_technical_report = blocking(AsyncManager.generate_technical_report)
    generate = blocking(AsyncManager.generate)
    checked_formats = blocking(AsyncManager.checked_formats)
    create_dashboard = blocking(AsyncManager.create_dashboard)
    archive_old_reports = blocking(AsyncManager.archive_old_reports)
    reports = blocking(AsyncManager.reports)
    find = blocking(AsyncManager.find)
    document = blocking(AsyncManager.document)
    content = blocking(AsyncManager.content)
