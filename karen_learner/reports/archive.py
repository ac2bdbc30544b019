"""The folder of reports: written atomically, listed, set aside if damaged, and archived.

    <root>/<tenant>/<date>/<report id>/metadata.json, report.json, report.html ...

No name comes from a text of a user: tenants have the names of `tenant_folder`, reports their ids.
All functions are blocking.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import get_args

from karen_learner.disk import make_folder, open_private
from karen_learner.errors import InvalidInput, UnknownReport
from karen_learner.models.files import (
    changed_at,
    folder_bytes,
    move_into_place,
    remove_folder,
    replace_file,
    sync_folder,
    tenant_folder,
)
from karen_learner.records import new_id
from karen_learner.records.period_reports import (
    ArchiveSummary,
    PeriodReport,
    ReportFormat,
    ReportList,
    ReportMetadata,
    StoredReport,
)

logger = logging.getLogger(__name__)

METADATA, DOCUMENT, ARCHIVED = "metadata.json", "report.json", "report.json.gz"
DAMAGED, STAGING = ".damaged", ".staging"
ABANDONED = timedelta(days=1)
"""Age of the folder of a report whose writing was interrupted."""
FORMATS: tuple[ReportFormat, ...] = get_args(ReportFormat)
_ID = re.compile(r"[0-9a-f]{4,32}")
DAMAGES = (ValueError, EOFError, FileNotFoundError, gzip.BadGzipFile, zlib.error)
"""Errors of a file that is no document, or no intact archive."""


class ReportArchive:
    """The reports below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def write(self, report: PeriodReport, files: Mapping[ReportFormat, bytes]) -> StoredReport:
        """Store a report with its rendered files. It appears as a whole, or not at all. Raises OSError."""
        meta = report.report_metadata
        tenant = self.tenant(meta.tenant_id)
        partial = tenant / STAGING / new_id()
        make_folder(partial)
        try:
            contents = {f"report.{format}": content for format, content in files.items()}
            contents |= {METADATA: _json(meta), DOCUMENT: report.model_dump_json(indent=1).encode()}
            for name, content in contents.items():
                with open_private(partial / name, "wb") as file:
                    file.write(content)
            sync_folder(partial)
            place = tenant / f"{meta.created_at:%Y-%m-%d}" / meta.report_id
            move_into_place(partial, place)
        except BaseException:
            remove_folder(partial)
            raise
        return _stored(place, meta)

    def tenant(self, tenant_id: str) -> Path:
        """The folder of a tenant's reports."""
        return self.root / tenant_folder(tenant_id)

    def newest(self, tenant_id: str, *, limit: int) -> ReportList:
        """The newest reports. Damaged ones are set aside."""
        found = (one for place in self._places(tenant_id) if (one := self._read_metadata(place)) is not None)
        reports = tuple(islice(found, limit))
        damaged = self.tenant(tenant_id) / DAMAGED
        names = sorted(path.name for path in damaged.iterdir()) if damaged.is_dir() else []
        return ReportList(reports=reports, damaged=tuple(names[:limit]))

    def find(self, tenant_id: str, report_id: str) -> StoredReport:
        """The report with an id, or with an unambiguous end of one. Raises UnknownReport, InvalidInput."""
        if not _ID.fullmatch(report_id):
            raise UnknownReport(
                f"{report_id!r:.60} is no id of a report: `karen-learner report list` shows them"
            )
        places = [place for place in self._places(tenant_id) if place.name.endswith(report_id)]
        if len(places) > 1:
            raise InvalidInput(f"{report_id!r} fits {len(places)} reports: write more of the id")
        stored = self._read_metadata(places[0]) if places else None
        if stored is None:
            raise UnknownReport(f"{tenant_id!r} has no report {report_id!r}")
        return stored

    def document(self, stored: StoredReport) -> PeriodReport:
        """The document of a report. A damaged one is set aside. Raises UnknownReport."""
        try:
            return PeriodReport.model_validate_json(_document_of(stored.folder))
        except DAMAGES as error:
            self._set_aside(stored.folder, error)
            raise UnknownReport(
                f"the report {stored.report_id} is damaged and was set aside: make it again with "
                "`karen-learner report`"
            ) from error

    def archive(self, *, before: datetime) -> ArchiveSummary:
        """Compress the documents of older reports, and remove the files that can be made again from them.

        Removes damaged reports of that age, and the files of interrupted writings.
        """
        archived, damaged, freed = [], 0, 0
        for tenant in _folders(self.root):
            for place in self._places_in(tenant):
                stored = self._read_metadata(place)
                if stored is not None and not stored.archived and stored.created_at < before:
                    freed += _compress(place)
                    archived.append(stored.report_id)
            for place in _folders(tenant / DAMAGED):
                if changed_at(place) < before:
                    freed += folder_bytes(place)
                    remove_folder(place)
                    damaged += 1
            for place in _folders(tenant / STAGING):
                if _age(place) > ABANDONED:
                    remove_folder(place)
        return ArchiveSummary(archived=tuple(archived), removed_damaged=damaged, freed_bytes=max(0, freed))

    def _places(self, tenant_id: str) -> Iterator[Path]:
        return self._places_in(self.tenant(tenant_id))

    def _places_in(self, tenant: Path) -> Iterator[Path]:
        """The folders of reports, newest first: ids begin with the time."""
        days = (day for day in _folders(tenant) if not day.name.startswith("."))
        for day in sorted(days, reverse=True):
            yield from sorted(_folders(day), reverse=True)

    def _read_metadata(self, place: Path) -> StoredReport | None:
        """The report in a folder. None if it is damaged: then it is set aside."""
        try:
            meta = ReportMetadata.model_validate_json((place / METADATA).read_bytes())
            if not ((place / DOCUMENT).is_file() or (place / ARCHIVED).is_file()):
                raise FileNotFoundError(f"{place} has no document")
        except DAMAGES as error:
            if place.exists():  # another process may have set it aside
                self._set_aside(place, error)
            return None
        return _stored(place, meta)

    def _set_aside(self, place: Path, error: Exception) -> None:
        logger.warning("the report in %s is damaged (%s) and is set aside", place, type(error).__name__)
        target = place.parent.parent / DAMAGED / f"{place.parent.name}-{place.name}"
        try:
            make_folder(target.parent)
            place.rename(target)
        except OSError as failed:  # a read-only home, or another process was faster
            logger.warning("the report in %s cannot be set aside: %s", place, failed)


def _json(meta: ReportMetadata) -> bytes:
    return json.dumps(meta.to_dict(), indent=1).encode()


def _stored(place: Path, meta: ReportMetadata) -> StoredReport:
    archived = not (place / DOCUMENT).is_file()
    formats = tuple(one for one in FORMATS if (place / f"report.{one}").is_file())
    return StoredReport(**dict(meta), folder=place, formats=formats, archived=archived)


def _compress(place: Path) -> int:
    """Keep the compressed document and the metadata. Returns the freed bytes.

    The other files go first: a full disk has room then. Of two processes the later one changes nothing.
    """
    before = folder_bytes(place)
    for path in place.iterdir():
        if path.name not in (METADATA, DOCUMENT, ARCHIVED):
            path.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        replace_file(place / ARCHIVED, gzip.compress((place / DOCUMENT).read_bytes(), mtime=0))
        (place / DOCUMENT).unlink()
    return before - folder_bytes(place)


def _document_of(place: Path) -> bytes:
    """The content of the document. It may be archived in this moment."""
    try:
        return (place / DOCUMENT).read_bytes()
    except FileNotFoundError:
        return gzip.decompress((place / ARCHIVED).read_bytes())


def _age(place: Path) -> timedelta:
    return datetime.now(timezone.utc) - changed_at(place)


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder; none if it does not exist. Links are left out."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
