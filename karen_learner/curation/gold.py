"""Intake of gold: labelled texts are read once, checked, and returned page by page.

All labels are checked before the first write, and the texts may exceed memory. So a temporary file stores
them.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import IO, Any, Literal, NamedTuple

from asyncio_extras import call_in_executor
from pydantic import Field, ValidationError

from karen_learner.concurrency import pages
from karen_learner.corpora.lines import CorruptExample, Line, SkippedLines
from karen_learner.corpora.parsing import require_text
from karen_learner.curation.alignment import TokenAligner, with_fitting_spans
from karen_learner.curation.contradictions import Statement, contradiction, stated_labels
from karen_learner.curation.data_checks import LabelCounts, similar_labels
from karen_learner.curation.examples import GOLD, Schema, new_example
from karen_learner.curation.resolver import NewContribution
from karen_learner.records import (
    CATEGORY_TASKS,
    TASKS,
    Contribution,
    Example,
    GoldReport,
    LabelledText,
    Task,
    new_id,
    utc_now,
    with_clean_labels,
)
from karen_learner.records.base import MAX_ID_CHARS
from karen_learner.records.labels import LabelChange, Successors
from karen_learner.records.offsets import span_problem
from karen_learner.relabelling import relabelled, without_retired
from karen_learner.resolution import task_labels
from karen_learner.settings import Settings
from karen_learner.text_identity import text_key

MIN_RENAMED = 2
"""Gold texts of a label that is renamed by an import."""
MAX_HELD = 50_000
"""Texts with other labels than stored gold that wait for the end of the file."""
HELD_IN_MEMORY_BYTES = 8_000_000

GoldSource = Literal["seed", "reviewed"]
GoldRecord = LabelledText | Mapping[str, Any] | Line[LabelledText]
"""A labelled text, alone or as a line of a file, or a mapping with the keys of a corpus line.

The keys are text, intent, sentiment and entities. Reviewed texts of turns may have the keys `turn_id` and
`user_id`, too.
"""
StoredGold = Callable[[Sequence[str]], Awaitable[Mapping[str, Sequence[Example | Contribution]]]]
"""Looks up the stored gold of texts by key."""


class GoldText(LabelledText):
    """A labelled text with the turn and the user that it is from, if they are known."""

    turn_id: str | None = Field(default=None, max_length=MAX_ID_CHARS)
    user_id: str | None = Field(default=None, max_length=MAX_ID_CHARS)


class GoldIntake:
    """One batch of gold. Call `read`, then declare the `labels`, then store the `pages`, then `close`."""

    def __init__(
        self,
        settings: Settings,
        aligner: TokenAligner,
        *,
        source: GoldSource,
        stored: StoredGold,
        replace: bool = False,
        successors: Successors | None = None,
    ) -> None:
        self._page_size = settings.store.page_size
        self._max_chars = settings.analysis.max_text_chars
        self._seed = settings.training.seed
        self._added_at = utc_now()
        self._aligner = aligner
        self._source = source
        self._stored = stored
        self._replace = replace
        self._successors = without_retired(successors or {})
        self._moved: dict[LabelChange, set[str]] = {}
        self._held: list[_Usable] = []
        self._stated: dict[str, dict[Task, Statement]] = {}
        self._contradictions = 0
        self._labels: dict[Task, Counter[str]] = {task: Counter() for task in TASKS}
        self._skipped = SkippedLines()
        self._dropped = SkippedLines()
        self._waiting: IO[str] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by `close`
            HELD_IN_MEMORY_BYTES, mode="w+", encoding="utf-8", newline="\n"
        )

    def close(self) -> None:
        self._waiting.close()

    async def read(self, records: AsyncIterable[GoldRecord] | Iterable[GoldRecord]) -> None:
        """Read all records; skip and report those that cannot be used.

        A record that contradicts an earlier one or stored gold is among them.
        """
        position = 1
        async for page in pages(records, self._page_size):
            usable: list[_Usable] = await call_in_executor(self._usable, page, position)
            stored = await self._stored([one.key for one in usable])
            await call_in_executor(self._take, usable, stored)
            position += len(page)

    def _usable(self, page: Sequence[GoldRecord], start: int) -> list[_Usable]:
        found = []
        for position, record in enumerate(page, start):
            line, value = (record.line, record.value) if isinstance(record, Line) else (position, record)
            try:
                labelled = relabelled(self._aligned(self._checked(value), line), self._successors)
            except CorruptExample as error:
                self._skipped.add(line, str(error))
            else:
                found.append(_Usable(line, text_key(labelled.text), labelled))
        return found

    def _take(
        self, usable: Sequence[_Usable], stored: Mapping[str, Sequence[Example | Contribution]]
    ) -> None:
        for one in usable:
            stated = self._stated.setdefault(one.key, {})
            for gold in stored.get(one.key, ()):
                if gold.turn_id is None or gold.turn_id != one.labelled.turn_id:
                    self._note_moved(one, gold)
                    if not self._replace:
                        stated.update(
                            {
                                t: Statement(label, None)
                                for t, label in stated_labels(gold).items()
                                if t not in stated
                            }
                        )
            if self._is_moved(one, stated) and len(self._held) < MAX_HELD:
                self._held.append(one)
            else:
                self._keep_or_skip(one)

    def _keep_or_skip(self, one: _Usable) -> None:
        labels, stated = stated_labels(one.labelled), self._stated[one.key]
        if problem := contradiction(labels, stated):
            self._contradictions += 1
            self._skipped.add(one.line, problem)
            return
        for task, label in labels.items():
            stated.setdefault(task, Statement(label, one.line))
        for task, name in set(task_labels(one.labelled)):
            self._labels[task][name] += 1
        self._waiting.write(one.labelled.model_dump_json() + "\n")

    # Renamed labels --------------------------------------------------------------------------

    def _note_moved(self, one: _Usable, gold: Example | Contribution) -> None:
        """Note the other label of stored gold: all gold of a label may come under a new name."""
        for task in CATEGORY_TASKS:
            old, new = getattr(gold, task), getattr(one.labelled, task)
            if isinstance(gold, Example) and old is not None and new not in (None, old):
                change = LabelChange(task=task, label=old, successor=new)
                self._moved.setdefault(change, set()).add(one.key)

    def _is_moved(self, one: _Usable, stated: Mapping[Task, Statement]) -> bool:
        """Whether the label of a category differs from that of stored gold."""
        return any(
            task in stated and stated[task].line is None and stated[task].label != label
            for task, label in stated_labels(one.labelled).items()
            if task in CATEGORY_TASKS
        )

    @property
    def has_moved_labels(self) -> bool:
        """Whether a text has another category label than stored gold."""
        return bool(self._moved)

    def renamed_labels(self, schema: Schema, gold: Mapping[Task, Mapping[str, int]]) -> list[LabelChange]:
        """The labels of `schema` whose `gold` (numbers by label) all comes under one new name."""
        known = {label for labels in schema.values() for label in labels}
        return [
            change
            for change, keys in self._moved.items()
            if MIN_RENAMED <= len(keys) == gold[change.task].get(change.label)
            and change.successor not in known
            and change.label not in self._labels[change.task]
        ]

    def settle(self, renamed: Sequence[LabelChange]) -> None:
        """Keep or skip the texts with other labels than stored gold, after these labels were renamed."""
        for change in renamed:
            for key in self._moved[change]:
                self._stated[key][change.task] = Statement(change.successor, None)
        for one in self._held:
            self._keep_or_skip(one)
        self._held.clear()

    def _checked(self, record: LabelledText | Mapping[str, Any] | None) -> GoldText:
        try:
            labelled = with_clean_labels(_gold_text(record))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the record"
            raise CorruptExample(f"{where}: {first['msg']}") from error
        except ValueError as error:
            raise CorruptExample(str(error)) from error
        text = labelled.text
        require_text(labelled)
        if len(text) > self._max_chars:
            raise CorruptExample(
                f"the text has {len(text)} characters; at most {self._max_chars} are allowed"
            )
        _check_characters("the text", text)
        if not labelled.tasks:
            raise CorruptExample("the text has no label")
        for task, label in task_labels(labelled):
            _check_characters(f"a label of {task}", label)
        if problem := span_problem(text, labelled.entities or ()):
            raise CorruptExample(problem)
        return labelled

    def _aligned(self, labelled: GoldText, position: int) -> GoldText:
        """The text with the entities that fit the tokens; the others are unannotated."""
        fitted = self._aligner.fit(labelled.text, labelled.entities or ())
        if fitted.problem is not None:
            if labelled.tasks == ("entities",) and not fitted.spans:
                raise CorruptExample(fitted.problem)
            self._dropped.add(position, fitted.problem)
        return with_fitting_spans(labelled, fitted)

    @property
    def labels(self) -> dict[Task, list[str]]:
        """The labels of the batch by task, without tasks that have none."""
        return {task: sorted(labels) for task, labels in self._labels.items() if labels}

    def has_new_labels(self, schema: Schema) -> bool:
        """Whether the batch has labels that the schema lacks."""
        return any(not labels.keys() <= set(schema.get(task, ())) for task, labels in self._labels.items())

    async def pages(self) -> AsyncIterator[list[NewContribution]]:
        """The usable texts as gold."""
        self._waiting.seek(0)
        async for lines in pages(self._waiting, self._page_size):
            yield await call_in_executor(lambda lines=lines: [self._gold(line) for line in lines])

    def _gold(self, line: str) -> NewContribution:
        """The id of an example from a turn is random: it must not identify the words of a user."""
        labelled = GoldText.model_validate_json(line)
        example = new_example(
            labelled,
            source=self._source,
            quality=GOLD,
            seed=self._seed,
            turn_id=None if labelled.turn_id is None else new_id(),
        )
        origin = {"turn_id": labelled.turn_id, "user_id": labelled.user_id}
        return NewContribution.of(example.model_copy(update=origin), self._added_at)

    def report(self, *, added: int, merged: int, known: LabelCounts) -> GoldReport:
        """The counts, with notes of labels that resemble each other or the `known` ones."""
        return GoldReport(
            added=added,
            merged=merged,
            skipped_count=self._skipped.count,
            skipped=tuple(sorted(self._skipped.first, key=lambda skipped: skipped.line)),
            contradictions=self._contradictions,
            entities_dropped_count=self._dropped.count,
            entities_dropped=tuple(self._dropped.first),
            notes=tuple(finding.message for finding in similar_labels(self._labels, known)),
        )


class _Usable(NamedTuple):
    """A record that can be stored, with its line or position and the key of its text."""

    line: int
    key: str
    labelled: GoldText


def _gold_text(record: LabelledText | Mapping[str, Any] | None) -> GoldText:
    if isinstance(record, LabelledText):
        return GoldText.model_construct(**{name: getattr(record, name) for name in LabelledText.model_fields})
    return GoldText.model_validate(record)


def _check_characters(name: str, text: str) -> None:
    if "\x00" in text:
        raise CorruptExample(f"{name} contains a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise CorruptExample(f"{name} contains a lone surrogate: it was decoded wrongly")
