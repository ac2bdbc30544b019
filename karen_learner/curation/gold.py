"""Labelled texts on their way in: read once, cleaned, their labels checked, then stored page by page.

Nothing may be written before all labels are checked, and the texts may be more than memory holds, so
they wait in a temporary file.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import IO, Any, Literal, Self

from pydantic import ValidationError

from karen_learner.curation.batches import batches
from karen_learner.curation.candidates import Schema, new_example, stratum, task_labels
from karen_learner.curation.quality import GOLD
from karen_learner.curation.spans import TokenAligner, span_problem
from karen_learner.errors import LabelCollision
from karen_learner.records import TASKS, Example, LabelledText, Record, SkippedLine, Task
from karen_learner.settings import Settings

MOST_REPORTED = 1000
HELD_IN_MEMORY_BYTES = 8_000_000
CORPUS_KEYS = {"text", *TASKS, "mood"}

GoldRecord = LabelledText | Mapping[str, Any]
"""A labelled text, or a mapping with the keys of a corpus line: text, intent, sentiment, entities, mood."""


class GoldReport(Record):
    """What became of labelled texts. Positions count from 1; each list holds the first 1,000.

    `added` are new texts and those whose label was changed, `merged` those that were known already.
    `entities_dropped` were added without their entities, whose spans are not made of whole tokens.
    """

    added: int = 0
    merged: int = 0
    skipped_count: int = 0
    skipped: tuple[SkippedLine, ...] = ()
    entities_dropped_count: int = 0
    entities_dropped: tuple[SkippedLine, ...] = ()


class GoldIntake:
    """One batch of gold. `read` it, `check_labels`, then store its `pages`. A context manager."""

    def __init__(
        self, settings: Settings, aligner: TokenAligner, *, source: Literal["seed", "reviewed"]
    ) -> None:
        self._page_size = settings.store.page_size
        self._max_chars = settings.analysis.max_text_chars
        self._seed = settings.training.seed
        self._aligner = aligner
        self._source: Literal["seed", "reviewed"] = source
        self._labels: dict[Task, set[str]] = {task: set() for task in TASKS}
        self._skipped = _Notes()
        self._dropped = _Notes()
        self.strata: Counter[str] = Counter()
        self._waiting: IO[str] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by __exit__
            HELD_IN_MEMORY_BYTES, mode="w+", encoding="utf-8", newline="\n"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.close()

    # Reading ---------------------------------------------------------------------------------

    async def read(self, records: AsyncIterable[GoldRecord] | Iterable[GoldRecord]) -> None:
        """Take all records in, leaving out those that cannot be used."""
        position = 1
        async for page in batches(records, self._page_size):
            await asyncio.to_thread(self._take, page, position)
            position += len(page)

    def _take(self, page: Sequence[GoldRecord], position: int) -> None:
        for at, record in enumerate(page, start=position):
            labelled = self._usable(record, at)
            if labelled is not None:
                self._note_labels(labelled)
                self._waiting.write(json.dumps(labelled.model_dump(mode="json", include=CORPUS_KEYS)) + "\n")

    def _usable(self, record: GoldRecord, position: int) -> LabelledText | None:
        try:
            labelled = record if isinstance(record, LabelledText) else LabelledText.model_validate(record)
        except ValidationError as error:
            self._skipped.add(position, _described(error))
            return None
        reason = self._text_problem(labelled) or self._label_problem(labelled)
        if reason is not None:
            self._skipped.add(position, reason)
            return None
        return self._with_learnable_entities(labelled, position)

    def _text_problem(self, labelled: LabelledText) -> str | None:
        text = labelled.text
        if not text.strip():
            return "the text is empty"
        if len(text) > self._max_chars:
            return f"the text has {len(text)} characters; at most {self._max_chars} are allowed"
        return _bad_characters("the text", text)

    def _label_problem(self, labelled: LabelledText) -> str | None:
        if not labelled.tasks:
            return "the text carries no label"
        for task, label in task_labels(labelled):
            reason = _bad_characters(f"a label of {task}", label)
            if reason is not None or not label.strip():
                return reason or f"a label of {task} is blank"
        return span_problem(labelled.text, labelled.entities or ())

    def _with_learnable_entities(self, labelled: LabelledText, position: int) -> LabelledText | None:
        reason = self._aligner.misfit(labelled.text, labelled.entities or ())
        if reason is None:
            return labelled
        if labelled.tasks == ("entities",):
            self._skipped.add(position, reason)
            return None
        self._dropped.add(position, reason)
        return labelled.model_copy(update={"entities": None})

    def _note_labels(self, labelled: LabelledText) -> None:
        self.strata[stratum(labelled)] += 1
        for task, label in task_labels(labelled):
            self._labels[task].add(label)

    # Labels ----------------------------------------------------------------------------------

    @property
    def labels(self) -> dict[Task, list[str]]:
        """The labels of the batch, by task; tasks without any are left out."""
        return {task: sorted(labels) for task, labels in self._labels.items() if labels}

    def new_labels(self, schema: Schema) -> bool:
        """Whether the batch has labels that the schema lacks."""
        return any(not labels <= set(schema.get(task, ())) for task, labels in self._labels.items())

    def check_labels(self, schema: Schema) -> None:
        """Raise LabelCollision if a label would be an intent and a sentiment."""
        both = _all(schema, self._labels, "intent") & _all(schema, self._labels, "sentiment")
        if both:
            raise LabelCollision.between(both)

    # Storing ---------------------------------------------------------------------------------

    async def pages(self) -> AsyncIterator[list[Example]]:
        """What was read, as gold examples."""
        self._waiting.seek(0)
        while page := await asyncio.to_thread(self._next_page):
            yield page

    def _next_page(self) -> list[Example]:
        lines = (self._waiting.readline() for _ in range(self._page_size))
        return [self._example(line) for line in lines if line]

    def _example(self, line: str) -> Example:
        labelled = LabelledText.model_validate_json(line)
        return new_example(labelled, source=self._source, quality=GOLD, seed=self._seed)

    def report(self, *, added: int, merged: int) -> GoldReport:
        return GoldReport(
            added=added,
            merged=merged,
            skipped_count=self._skipped.count,
            skipped=tuple(self._skipped.first),
            entities_dropped_count=self._dropped.count,
            entities_dropped=tuple(self._dropped.first),
        )


class _Notes:
    """Counts all, and keeps the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[SkippedLine] = []

    def add(self, position: int, reason: str) -> None:
        self.count += 1
        if len(self.first) < MOST_REPORTED:
            self.first.append(SkippedLine(line=position, reason=reason))


def _all(schema: Schema, labels: Mapping[Task, Collection[str]], task: Task) -> set[str]:
    return set(schema.get(task, ())) | set(labels[task])


def _bad_characters(what: str, text: str) -> str | None:
    if "\x00" in text:
        return f"{what} contains a NUL character"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return f"{what} contains a lone surrogate: it was decoded wrongly"
    return None


def _described(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the record"
    return f"{where}: {first['msg']}"
