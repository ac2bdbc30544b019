"""`ProductionLog`: validates, sanitises and stores the log entries of a host."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from asyncio_extras import call_in_executor
from cachetools import LRUCache
from pydantic import JsonValue, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from karen_learner import memory
from karen_learner.concurrency import Batcher
from karen_learner.contracts import Clock, Sanitizer
from karen_learner.errors import InvalidInput
from karen_learner.improvement.samples import cluster_of
from karen_learner.records import new_id
from karen_learner.records.decisions import Decision, LogEntry, LogReport
from karen_learner.settings import StoreSettings

MAX_ENTRY_BYTES = 262_144
MAX_REASON_CHARS = 200
MAX_REASONS = 50
"""Distinct reasons of a report; further ones count as `OTHER`."""
OTHER = "other reasons"
PAGE = 2_000
"""Lines that are read, validated and stored together."""
PRUNE_EVERY = timedelta(days=1)
MAX_TENANTS = 10_000
"""Tenants whose last removal of old entries is known."""
EARLIEST = datetime(1970, 1, 1, tzinfo=timezone.utc)
EMPTIED: Mapping[str, Any] = {
    "input_data": {}, "output_data": {}, "user_id": None, "turn_id": None, "subject": None,
}  # fmt: skip
"""The values of an entry without consent."""
TEMPLATE_KEYS = ("template", "template_id", "template_used")
MAX_TEMPLATE_CHARS = 200
MARKS = (b'"log_type"', b'"decision_reasoning"')
SCHEMA_FILE = Path(__file__).with_name("decision.schema.json")
"""The JSON schema of an entry, for hosts in any language."""

OnLines = Callable[[int], None]
DecisionInput = Decision | Mapping[str, Any] | str | bytes


class ProductionLog:
    """The production log of a store. Concurrent calls of `log` share transactions.

    Once a day, a write removes the entries of its tenant that are older than `settings.log_retention_days`.
    """

    def __init__(
        self, store: memory.SqlMemoryStore, settings: StoreSettings, *, sanitizer: Sanitizer, clock: Clock
    ) -> None:
        self._store = store
        self._retention = timedelta(days=settings.log_retention_days)
        self._pruned_at: LRUCache[str, datetime] = LRUCache(MAX_TENANTS)
        self._sanitizer = sanitizer
        self._clock = clock
        self._batches: Batcher[tuple[str, DecisionInput], str] = Batcher(
            self._write, queue_size=settings.queue_size, max_batch=PAGE, owner="the production log"
        )

    async def close(self) -> None:
        """Finish the writes that have begun. Idempotent."""
        await self._batches.close()

    async def log(self, tenant_id: str, decision: DecisionInput) -> str:
        """Store one entry, and return its key. It is on disk when this returns. Raises InvalidInput."""
        return await self._batches.submit((tenant_id, decision))

    async def import_lines(
        self, tenant_id: str, lines: Iterator[bytes], *, on_lines: OnLines | None = None
    ) -> LogReport:
        """Store the entries of JSON lines, of any number. `lines` is read in a thread.

        Corrupt lines are stored by reason, without their content: analyses report their number. The same
        lines again are the same entries. Raises StoreError.
        """
        read = added = 0
        reasons: Counter[str] = Counter()
        while page := await call_in_executor(self._page, lines):
            read += len(page)
            added += await self._add(tenant_id, page)
            reasons.update(limited(Counter(one.reason for one in page if one.reason is not None), reasons))
            if on_lines is not None:
                on_lines(read)
        corrupt = reasons.total()
        return LogReport(
            entries=read, added=added, duplicates=read - added, corrupt=corrupt, reasons=dict(reasons)
        )

    async def import_file(self, tenant_id: str, path: Path, *, on_lines: OnLines | None = None) -> LogReport:
        """Store the entries of a file of JSON lines (see `import_lines`). Raises InvalidInput, StoreError."""
        try:
            with path.open("rb") as file:
                return await self.import_lines(tenant_id, file_lines(file), on_lines=on_lines)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error}") from error

    async def erase(
        self,
        tenant_id: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        subject: str | None = None,
    ) -> int:
        """Remove contents and ids of the entries of a user, a session or a subject; their number."""
        given = (user_id, session_id, subject)
        if given == (None, None, None):
            raise InvalidInput("give the user_id, the session_id or the subject whose log entries are erased")
        users, sessions, subjects = ([] if one is None else [one] for one in given)
        return await self._store.erase_decisions(
            tenant_id, user_ids=users, session_ids=sessions, subjects=subjects
        )

    def _page(self, lines: Iterator[bytes]) -> list[LogEntry]:
        return [self._entry_of_line(line) for line in islice(lines, PAGE)]

    def _entry_of_line(self, line: bytes) -> LogEntry:
        digest = hashlib.blake2b(line, digest_size=16).hexdigest()
        try:
            return self._entry(read_decision(line), digest)
        except InvalidInput as error:
            return LogEntry(f"corrupt:{digest}", self._clock(), None, reason=str(error))

    def _entry(self, decision: Decision, digest: str | None = None) -> LogEntry:
        now = self._clock()
        at = max(EARLIEST, min(decision.timestamp or now, now))
        person = decision.user_id or decision.subject or decision.session_id
        if decision.consent is False:
            decision = decision.model_copy(update=dict(EMPTIED))
        else:
            contents = {name: self._clean(getattr(decision, name)) for name in ("input_data", "output_data")}
            decision = decision.model_copy(update=contents)
        key = f"line:{digest}" if digest is not None else f"new:{new_id()}"
        if decision.entry_id is not None:
            key = f"id:{decision.entry_id}"
        return LogEntry(key, at, decision, template_of(decision), cluster_of(person))

    def _clean(self, value: JsonValue) -> JsonValue:
        """The value with sanitised texts."""
        if isinstance(value, str):
            return self._sanitizer.sanitize(value)
        if isinstance(value, list):
            return [self._clean(one) for one in value]
        if isinstance(value, dict):
            return {self._sanitizer.sanitize(name): self._clean(one) for name, one in value.items()}
        return value

    def _entries(self, decisions: Iterable[DecisionInput]) -> list[LogEntry | Exception]:
        found: list[LogEntry | Exception] = []
        for decision in decisions:
            try:
                found.append(self._entry(read_decision(decision)))
            except Exception as error:  # the caller of this entry receives it
                found.append(error)
        return found

    async def _write(self, items: Sequence[tuple[str, DecisionInput]]) -> Sequence[str | Exception]:
        """The keys of the entries, or their errors. A thread reads and sanitises them."""
        made = await call_in_executor(self._entries, [decision for _, decision in items])
        by_tenant: dict[str, list[LogEntry]] = {}
        for (tenant_id, _), entry in zip(items, made, strict=True):
            if isinstance(entry, LogEntry):
                by_tenant.setdefault(tenant_id, []).append(entry)
        errors: dict[str, Exception] = {}
        for tenant_id, entries in by_tenant.items():
            try:
                await self._add(tenant_id, entries)
            except Exception as error:  # the callers of this tenant receive it
                errors[tenant_id] = error
        return [
            entry if isinstance(entry, Exception) else errors.get(tenant_id, entry.key)
            for (tenant_id, _), entry in zip(items, made, strict=True)
        ]

    async def _add(self, tenant_id: str, entries: Sequence[LogEntry]) -> int:
        added = await self._store.add_decisions(tenant_id, entries)
        now, pruned_at = self._clock(), self._pruned_at.get(tenant_id)
        if pruned_at is None or now - pruned_at >= PRUNE_EVERY:
            self._pruned_at[tenant_id] = now
            await self._store.prune_decisions(tenant_id, before=now - self._retention)
        return added


def read_decision(raw: DecisionInput) -> Decision:
    """The entry. Raises InvalidInput with the reason, without values of the entry."""
    if isinstance(raw, Decision):
        return raw
    try:
        content = to_json(dict(raw)) if isinstance(raw, Mapping) else raw
        if not isinstance(content, (str, bytes)):
            raise InvalidInput(f"a log entry is a mapping or JSON, not {type(raw).__name__}")
        if len(content) > MAX_ENTRY_BYTES:
            raise InvalidInput(f"the entry has more than {MAX_ENTRY_BYTES:,} bytes")
        return Decision.model_validate_json(content)
    except ValidationError as error:
        raise InvalidInput(_reason(error)) from None
    except (PydanticSerializationError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput("the values of the entry are no JSON, or a text is not Unicode") from None


def _reason(error: ValidationError) -> str:
    """The first problem. Few distinct texts, because analyses count them."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return "the line is no JSON"
    place = ".".join(map(str, first["loc"][:2])) or "entry"
    return f"{place}: {first['msg']}"[:MAX_REASON_CHARS]


def template_of(decision: Decision) -> str | None:
    """The template that an entry names in its output or input; None without a name."""
    for content in (decision.output_data, decision.input_data):
        for key in TEMPLATE_KEYS:
            if isinstance(name := content.get(key), str) and 0 < len(name) <= MAX_TEMPLATE_CHARS:
                return name
    return None


def is_decision_log(path: Path) -> bool:
    """Whether the first line of a file has the keys of a log entry."""
    try:
        with path.open("rb") as file:
            first = next(file_lines(file), b"")
    except OSError:
        return False
    return all(mark in first for mark in MARKS)


def file_lines(file: Any) -> Iterator[bytes]:
    """The lines of a binary file that are not blank. One that is too long is cut, so that it is corrupt."""
    while line := file.readline(MAX_ENTRY_BYTES + 1):
        rest = line
        while len(rest) > MAX_ENTRY_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_ENTRY_BYTES + 1)
        if line := line.strip():
            yield line


def limited(new: Counter[str], known: Mapping[str, int]) -> Counter[str]:
    """Counts of reasons, with at most `MAX_REASONS` names together with the known ones."""
    found: Counter[str] = Counter()
    for reason, count in new.items():
        is_named = reason in known or reason in found or len(known.keys() | found.keys()) < MAX_REASONS
        found[reason if is_named else OTHER] += count
    return found


def decision_schema() -> dict[str, Any]:
    """The JSON schema of an entry (draft 2020-12)."""
    schema = Decision.model_json_schema()
    schema["properties"]["lead_identifier"] = {**schema["properties"]["subject"], "title": "Alias of subject"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
