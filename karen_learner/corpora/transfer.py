"""Imports of files with a report of skipped lines, and exports of examples and turns."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol, get_args

from asyncio_extras import call_in_executor
from spacy.language import Language

from karen_learner.concurrency import pages
from karen_learner.contracts import MemoryStore
from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.docbin import read_examples
from karen_learner.corpora.exporters import ExportFile, export_format, write_examples
from karen_learner.corpora.importers import CorpusSource, aiter_records, iter_records
from karen_learner.corpora.lines import MAX_SKIPPED_LISTED, Line, SkippedLines, write_lines, write_text
from karen_learner.corpora.parsing import ImportedLine, TurnInput
from karen_learner.errors import InvalidInput
from karen_learner.records import ExampleState, GoldReport, IngestReport, LabelledText, Turn

logger = logging.getLogger(__name__)

ExportKind = Literal["examples", "turns"]
TokenizerOf = Callable[[str], Awaitable[Language | None]]
"""Gives a pipeline with the tokenizer for a tenant; None for that of the language."""
OnLines = Callable[[int], None]
AddTurn = Callable[[str, TurnInput], Awaitable[object]]


class AddGold(Protocol):
    """Stores the lines of a file that are gold, and reports by their numbers."""

    async def __call__(
        self, tenant_id: str, records: AsyncIterator[Line[LabelledText]], *, replace: bool = False
    ) -> GoldReport: ...


CONCURRENT_LINES = 256
TURNS_FORMAT = "jsonl"
EXPORTED_STATES: tuple[ExampleState, ...] = ("learned", "pending")


class Transfer:
    """Imports and exports of one learner."""

    def __init__(
        self,
        store: MemoryStore,
        *,
        add_turn: AddTurn,
        add_gold: AddGold,
        language: str,
        tokenizers: TokenizerOf | None = None,
    ) -> None:
        self._store = store
        self._add_turn = add_turn
        self._add_gold = add_gold
        self._language = language
        self._tokenizers = tokenizers

    async def ingest(
        self,
        tenant_id: str,
        source: CorpusSource | AsyncIterator[ImportedLine],
        *,
        replace: bool = False,
        on_lines: OnLines | None = None,
    ) -> IngestReport:
        """Import turns (lines with `user_text`) and gold examples (lines with `text`).

        A bad line is reported with its number and skipped. So is a line that contradicts an earlier one, or
        stored gold that it is not to `replace`. A turn without an id gets one from its line and
        content. `on_lines` receives the number of lines read so far. Raises ImportFormatError for a file of
        an unknown kind.
        """
        ingestion = _Ingestion(tenant_id, self._add_turn, on_lines)
        if not isinstance(source, (CorpusFile, Path, str)):
            gold = await self._add_gold(tenant_id, ingestion.gold(source), replace=replace)
            return ingestion.report(Path("-"), gold)
        reading = await call_in_executor(iter_records, source)
        gold = await self._add_gold(tenant_id, ingestion.gold(aiter_records(reading)), replace=replace)
        return ingestion.report(reading.file.path, gold, notes=reading.notes)

    async def export(
        self,
        tenant_id: str,
        path: Path,
        *,
        kind: ExportKind = "examples",
        to: str | None = None,
        user_id: str | None = None,
    ) -> int:
        """Write curated examples, or turns (all, or those of a user) as JSON lines. Returns their number.

        `to` is the name of an exporter; by default the suffix decides. Labels that its format cannot hold are
        logged. A temporary file in the same folder is renamed to `path`, so that a crash leaves no half file.
        Raises InvalidInput for an unknown kind or format, for nothing to export, and for a path that cannot
        be written.
        """
        if kind not in get_args(ExportKind):
            raise InvalidInput(f"unknown kind {kind!r:.60}: export {' or '.join(get_args(ExportKind))}")
        name = export_format(path, to)
        if kind == "turns" and name != TURNS_FORMAT:
            raise InvalidInput(f"turns cannot be exported as {name}: write a {TURNS_FORMAT} file")
        if kind != "turns" and user_id is not None:
            raise InvalidInput("examples belong to no user: export the turns of the user")
        partial = path.with_name(path.name + ".partial")
        try:
            if kind == "turns":
                count = await write_text(partial, self._turns(tenant_id, user_id), Turn.model_dump_json)
            else:
                count = await write_lines(partial, self._examples(tenant_id))
            if name != TURNS_FORMAT:
                target = ExportFile(
                    path.with_name(path.name + ".new"), self._language, await self._tokenizer(tenant_id)
                )
                count = await call_in_executor(_rewrite, partial, name, target)
            if not count:
                whose = repr(tenant_id) if user_id is None else f"the user {user_id!r:.80} of {tenant_id!r}"
                raise InvalidInput(f"{whose} has no {kind} to export")
            await call_in_executor(partial.replace, path)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be written: {error}") from error
        finally:
            await call_in_executor(_remove, partial)
        return count

    async def _turns(self, tenant_id: str, user_id: str | None) -> AsyncIterator[Turn]:
        async for turn in self._store.turns(tenant_id):
            if user_id in (None, turn.metadata.user_id):
                yield turn

    async def _tokenizer(self, tenant_id: str) -> Language | None:
        return None if self._tokenizers is None else await self._tokenizers(tenant_id)

    async def _examples(self, tenant_id: str) -> AsyncIterator[LabelledText]:
        for state in EXPORTED_STATES:
            async for example in self._store.examples(tenant_id, state=state):
                yield example


def _rewrite(path: Path, name: str, target: ExportFile) -> int:
    """Replace a file of JSON lines by its examples in another format. Blocking. Returns their number."""
    try:
        examples = (line.value for line in read_examples(path) if line.value is not None)
        count = write_examples(target, examples, name)
        target.path.replace(path)
    finally:
        _remove(target.path)
    for note in target.notes:
        logger.warning("not exported: %s", note)
    return count


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


class _Ingestion:
    """One import: stores turns through the collector, many at a time, and yields gold examples."""

    def __init__(self, tenant_id: str, add_turn: AddTurn, on_lines: OnLines | None) -> None:
        self._tenant_id = tenant_id
        self._add_turn = add_turn
        self._on_lines = on_lines
        self._skipped = SkippedLines()
        self._turns = 0

    async def gold(self, lines: AsyncIterator[ImportedLine]) -> AsyncIterator[Line[LabelledText]]:
        """The gold examples of the lines. Turns are stored during the iteration."""
        async for page in pages(lines, CONCURRENT_LINES):
            turns = [(line.line, line.value) for line in page if isinstance(line.value, TurnInput)]
            await asyncio.gather(*(self._store_turn(number, turn) for number, turn in turns))
            for line in page:
                if self._on_lines is not None:
                    self._on_lines(line.line)
                if isinstance(line.value, LabelledText):
                    yield Line(line.line, line.value)
                elif line.value is None:
                    self._skipped.add(line.line, line.error or "the line is empty")

    async def _store_turn(self, number: int, turn: TurnInput) -> None:
        if turn.turn_id is None:
            turn = turn.model_copy(update={"turn_id": line_turn_id(number, turn)})
        try:
            await self._add_turn(self._tenant_id, turn)
            self._turns += 1
        except InvalidInput as error:
            self._skipped.add(number, str(error))

    def report(self, path: Path, gold: GoldReport, *, notes: tuple[str, ...] = ()) -> IngestReport:
        """Counts and skipped lines."""
        refused = (*gold.skipped, *gold.entities_dropped)
        skipped = sorted((*self._skipped.first, *refused), key=lambda line: line.line)
        return IngestReport(
            path=path,
            turns=self._turns,
            examples=gold.added,
            duplicates=gold.merged,
            skipped_count=self._skipped.count + gold.skipped_count,
            skipped=tuple(skipped[:MAX_SKIPPED_LISTED]),
            contradictions=gold.contradictions,
            notes=(*notes, *gold.notes),
        )


def line_turn_id(line: int, turn: TurnInput) -> str:
    """The id of a turn that a file gives none: its line, and a digest of its content without the feedback.

    So the same file twice is the same turns, and later feedback belongs to them. The line comes first:
    successive ids are neighbours in the store's index (see `new_id`).
    """
    content = turn.model_dump_json(exclude={"user_feedback", "turn_id", "tenant_id"})
    return f"line-{line:08d}-{hashlib.blake2b(content.encode(), digest_size=12).hexdigest()}"
