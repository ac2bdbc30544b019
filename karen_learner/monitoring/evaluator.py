"""Evaluations of saved versions on labelled or judged texts. They change nothing."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncio_extras import call_in_executor
from spacy.language import Language

from karen_learner.analysis.spacy_analyzer import ModelQueue
from karen_learner.components.textcat.pipe import BaseTextCategorizer
from karen_learner.contracts import MemoryStore
from karen_learner.corpora.corpus_file import CorpusFile
from karen_learner.corpora.importers import CorpusSource, ImportedLines, aiter_records, iter_records
from karen_learner.corpora.lines import SkippedLines
from karen_learner.corpora.parsing import ImportedLine, TurnInput, imported_line
from karen_learner.curation.examples import new_example
from karen_learner.errors import InvalidInput
from karen_learner.models.backups import intact_manifest
from karen_learner.models.files import HomeLayout
from karen_learner.models.live import LiveModel
from karen_learner.models.versions import ModelRegistry
from karen_learner.records import (
    TASKS,
    Example,
    ExampleState,
    LabelledText,
    ModelVersion,
    Task,
    check_several,
    check_text,
)
from karen_learner.records.evaluations import Evaluation, VersionComparison
from karen_learner.records.labels import Successors
from karen_learner.records.training import Predicted
from karen_learner.relabelling import present_label, relabelled, relabelled_analysis, without_retired
from karen_learner.settings import Settings
from karen_learner.training.shadows import read_judged
from karen_learner.validation.evaluation import (
    Answer,
    clustered_interval,
    independent_interval,
    reliability,
    scope_rates,
    task_differences,
    unknown_labels,
)
from karen_learner.validation.evidence import labels_of
from karen_learner.validation.results import Prediction
from karen_learner.validation.scoring import ScoredTexts, first_of_each_kind, flips, score

LabelledSource = CorpusSource | Iterable[LabelledText | Mapping[str, Any]]
"""A file that an importer reads, or labelled texts."""
OnTexts = Callable[[int, int], None]
"""Receives the number of analysed texts and the number of all analyses."""

TEXTS_PER_BATCH = 256
MAX_FLIPS = 1000
COMPARED_STATES: Collection[ExampleState] = ("learned", "pending")
MAX_TEXT_CHARS = 200
TURN = "a turn: only labelled texts (lines with 'text') can be evaluated"


@dataclass(frozen=True)
class LabelledTexts:
    """The usable texts of a source as examples, with line numbers as ids, and the unusable lines."""

    name: str
    examples: list[Example]
    reading: ImportedLines[LabelledText | TurnInput] | None = None
    skipped: SkippedLines = field(default_factory=SkippedLines)

    @property
    def notes(self) -> tuple[str, ...]:
        """The parts of a file that were left out on purpose."""
        return () if self.reading is None else self.reading.notes

    def beginnings(self, ids: Collection[str]) -> dict[str, str]:
        """The beginnings of the texts with these ids."""
        return {one.example_id: one.text[:MAX_TEXT_CHARS] for one in self.examples if one.example_id in ids}


@dataclass(frozen=True)
class Answered:
    """A version, its labels and answers. Without `finds_scope` it finds no text out of scope."""

    version: str
    labels: Mapping[Task, tuple[str, ...]]
    answers: list[Answer]
    finds_scope: bool


class Evaluator:
    """Scores versions of a tenant on labelled texts, and compares them.

    A version answers as it is served, with its calibration. It is loaded for the evaluation only.
    """

    def __init__(
        self, store: MemoryStore, registry: ModelRegistry, layout: HomeLayout, settings: Settings
    ) -> None:
        self._store = store
        self._registry = registry
        self._layout = layout
        self._settings = settings

    async def evaluate(
        self,
        tenant_id: str,
        source: LabelledSource,
        *,
        version: str | None = None,
        on_texts: OnTexts | None = None,
    ) -> Evaluation:
        """Scores of a version, by default of the champion.

        Raises UnknownVersion, ModelError, ImportFormatError, and InvalidInput if no text is usable or if the
        version knows no label of the texts.
        """
        chosen = await self._registry.require(tenant_id, version)
        texts = await self._read(tenant_id, source)
        answered = await self._answers(chosen, texts, _counting(on_texts, len(texts.examples)))
        found: Evaluation = await call_in_executor(self._evaluation, tenant_id, texts, answered)
        return found

    async def compare(
        self,
        tenant_id: str,
        before: str,
        after: str,
        source: LabelledSource | None = None,
        *,
        on_texts: OnTexts | None = None,
    ) -> VersionComparison:
        """Two versions on the same labelled texts; without a source, on judged gold.

        Judged gold: the out-of-fold predictions that both versions recorded at their deployment. Raises the
        errors of `evaluate`, and InvalidInput if the versions recorded no common text.
        """
        old, new = [await self._registry.require(tenant_id, name) for name in (before, after)]
        if source is None:
            return await self._compare_judged(old, new)
        texts = await self._read(tenant_id, source)
        counting = _counting(on_texts, 2 * len(texts.examples))
        both = [await self._answers(version, texts, counting) for version in (old, new)]
        found: VersionComparison = await call_in_executor(self._comparison, tenant_id, texts, *both)
        return found

    async def _compare_judged(self, before: ModelVersion, after: ModelVersion) -> VersionComparison:
        old, new = [await self._judged(version) for version in (before, after)]
        stored = await self._store.examples_by_id(before.tenant_id, [name for name in old if name in new])
        examples = [one for one in stored.values() if one.is_gold and one.state in COMPARED_STATES]
        if not examples:
            raise InvalidInput(
                f"{before.version} and {after.version} have no judged gold in common: "
                "compare them on a labelled file"
            )
        people = await self._store.contributors(before.tenant_id, [example.key for example in examples])
        predictions = [[one[example.example_id] for example in examples] for one in (old, new)]
        found: VersionComparison = await call_in_executor(
            self._judged_comparison, before, after, examples, people, *predictions
        )
        return found

    async def _judged(self, version: ModelVersion) -> dict[str, Prediction]:
        """The recorded out-of-fold predictions of a version by example id. Raises InvalidInput."""
        folder = self._layout.shadows(version.tenant_id, version.version)
        successors = await self._store.label_successors(version.tenant_id)
        found: dict[str, Predicted] = await call_in_executor(read_judged, folder, successors)
        if not found:
            raise InvalidInput(
                f"{version.version} has no recorded judged texts (only the live version, its parent and the "
                "best version of each task keep them): compare them on a labelled file"
            )
        return {name: Prediction.from_row(one.row, one.right) for name, one in found.items()}

    def _judged_comparison(
        self,
        before: ModelVersion,
        after: ModelVersion,
        examples: Sequence[Example],
        people: Mapping[str, Sequence[str]],
        old: Sequence[Prediction],
        new: Sequence[Prediction],
    ) -> VersionComparison:
        thresholds = self._settings.thresholds
        first, second = (score(examples, answers, thresholds=thresholds) for answers in (old, new))
        found = list(flips(examples, old, new))
        listed = first_of_each_kind(found, MAX_FLIPS)
        shown = {flip.example_id for flip in listed}
        return VersionComparison(
            tenant_id=before.tenant_id,
            before=before.version,
            after=after.version,
            source="judged",
            texts=len(examples),
            tasks=task_differences(first, second, found, interval_of=clustered_interval(examples, people)),
            flips=listed,
            example_texts={
                one.example_id: one.text[:MAX_TEXT_CHARS] for one in examples if one.example_id in shown
            },
        )

    async def _read(self, tenant_id: str, source: LabelledSource) -> LabelledTexts:
        if isinstance(source, (CorpusFile, Path, str)):
            reading = await call_in_executor(iter_records, source)
            texts, lines = LabelledTexts(str(reading.file.path), [], reading), aiter_records(reading)
        else:
            texts, lines = LabelledTexts("the examples", []), _lines(check_several(source, "the examples"))
        successors = await self._store.label_successors(tenant_id)
        async for line in lines:
            try:
                texts.examples.append(relabelled(self._example(line), without_retired(successors)))
            except InvalidInput as error:
                texts.skipped.add(line.line, str(error))
        if not texts.examples:
            first = texts.skipped.first
            why = f": line {first[0].line}: {first[0].reason}" if first else " (the file is empty)"
            raise InvalidInput(f"no line of {texts.name} can be evaluated{why}")
        return texts

    def _example(self, line: ImportedLine) -> Example:
        """The labelled text of a line, with the line number as its id. Raises InvalidInput."""
        if line.value is None:
            raise InvalidInput(line.error or "the line is empty")
        if isinstance(line.value, TurnInput):
            raise InvalidInput(TURN)
        limit = self._settings.analysis.max_text_chars
        check_text(line.value.text, limit=limit, what="the text", setting="analysis.max_text_chars")
        example = new_example(line.value, source="seed", quality=1.0)
        return example.model_copy(update={"example_id": str(line.line)})

    async def _answers(
        self, version: ModelVersion, texts: LabelledTexts, on_batch: Callable[[int], None]
    ) -> Answered:
        async with loaded(version) as model:
            successors = await self._store.label_successors(version.tenant_id)
            labels = {task: _present(model, task, successors) for task in TASKS if task in model.tasks}
            _require_known_labels(version.version, labels, texts)
            queue, answers = ModelQueue(self._settings.analysis), list[Answer]()
            for start in range(0, len(texts.examples), TEXTS_PER_BATCH):
                batch = [example.text for example in texts.examples[start : start + TEXTS_PER_BATCH]]
                found = await queue.analyze_many(model, batch)
                answers += [Answer.from_analysis(relabelled_analysis(one, successors)) for one in found]
                on_batch(len(batch))
            finds_scope = await model.run(lambda nlp: _has_threshold(nlp, model.tasks.get("intent")))
        return Answered(version.version, labels, answers, finds_scope)

    def _evaluation(self, tenant_id: str, texts: LabelledTexts, answered: Answered) -> Evaluation:
        examples, answers = texts.examples, answered.answers
        scores = self._score(texts, answered).result
        shown = {name for error in scores.errors for name in error.example_ids}
        intents = answered.labels.get("intent", ()) if answered.finds_scope else None
        return Evaluation(
            tenant_id=tenant_id,
            version=answered.version,
            texts=len(examples),
            scores=scores,
            reliability=reliability(examples, answers),
            scope=None if intents is None else scope_rates(examples, answers, intents),
            unknown_labels=unknown_labels(examples, answered.labels),
            degraded=sum(answer.degraded for answer in answers),
            skipped_count=texts.skipped.count,
            skipped=tuple(texts.skipped.first),
            notes=texts.notes,
            example_texts=texts.beginnings(shown),
        )

    def _comparison(
        self, tenant_id: str, texts: LabelledTexts, before: Answered, after: Answered
    ) -> VersionComparison:
        old, new = ([answer.prediction for answer in one.answers] for one in (before, after))
        found = list(flips(texts.examples, old, new))
        listed = first_of_each_kind(found, MAX_FLIPS)
        return VersionComparison(
            tenant_id=tenant_id,
            before=before.version,
            after=after.version,
            source="labelled",
            texts=len(texts.examples),
            tasks=task_differences(
                self._score(texts, before),
                self._score(texts, after),
                found,
                interval_of=independent_interval,
            ),
            flips=listed,
            unknown_labels={
                one.version: unknown_labels(texts.examples, one.labels) for one in (before, after)
            },
            skipped_count=texts.skipped.count,
            skipped=tuple(texts.skipped.first),
            notes=texts.notes,
            example_texts=texts.beginnings({flip.example_id for flip in listed}),
        )

    def _score(self, texts: LabelledTexts, answered: Answered) -> ScoredTexts:
        predictions = [answer.prediction for answer in answered.answers]
        return score(texts.examples, predictions, thresholds=self._settings.thresholds)


@asynccontextmanager
async def loaded(version: ModelVersion) -> AsyncIterator[LiveModel]:
    """The version in memory while the block runs. A damaged one is restored first. Raises ModelError."""
    manifest = await call_in_executor(intact_manifest, version)
    model: LiveModel = await call_in_executor(
        lambda: LiveModel.load(version.path, tasks=manifest.tasks, version=version.version)
    )
    try:
        yield model
    finally:
        model.close()


def _present(model: LiveModel, task: Task, successors: Successors) -> tuple[str, ...]:
    """The present labels of a model, in its order."""
    present = (present_label(successors, task, label) for label in model.labels(task))
    return tuple(dict.fromkeys(label for label in present if label is not None))


async def _lines(source: Iterable[LabelledText | Mapping[str, Any]]) -> AsyncIterator[ImportedLine]:
    for number, one in enumerate(source, start=1):
        yield imported_line(number, _values(one) if isinstance(one, LabelledText) else one)


def _values(labelled: LabelledText) -> dict[str, Any]:
    return {"text": labelled.text} | {str(task): getattr(labelled, task) for task in labelled.tasks}


def _counting(on_texts: OnTexts | None, total: int) -> Callable[[int], None]:
    """A callback for each batch that reports the sum of all batches."""
    done = 0

    def on_batch(count: int) -> None:
        nonlocal done
        done += count
        if on_texts is not None:
            on_texts(done, total)

    return on_batch


def _has_threshold(nlp: Language, pipe_name: str | None) -> bool:
    """Whether the pipe has an out-of-scope threshold."""
    pipe = None if pipe_name is None else nlp.get_pipe(pipe_name)
    if not isinstance(pipe, BaseTextCategorizer) or pipe.calibration is None:
        return False
    return pipe.calibration.threshold is not None


def _require_known_labels(version: str, labels: Mapping[Task, Sequence[str]], texts: LabelledTexts) -> None:
    """Raise InvalidInput if the version knows no label of any text: then every answer is wrong."""
    given = {(task, label) for one in texts.examples for task in TASKS for label in labels_of(one, task)}
    if not given or any(label in labels.get(task, ()) for task, label in given):
        return
    task, label = min(given)
    near = difflib.get_close_matches(label, labels.get(task, ()), n=1)
    hint = f"did you mean {near[0]!r}?" if near else _known(task, labels)
    raise InvalidInput(f"{version} knows no label of {texts.name}, such as the {task} {label!r}: {hint}")


def _known(task: Task, labels: Mapping[Task, Sequence[str]]) -> str:
    if task not in labels:
        return f"it has no model of {task}"
    names = ", ".join(map(repr, labels[task][:5]))
    return f"its labels of {task} are {names}{', ...' if len(labels[task]) > 5 else ''}"
