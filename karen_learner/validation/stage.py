"""The validation stage of a cycle: out-of-fold predictions of candidate and champion become a verdict."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from asyncio_extras import call_in_executor

from karen_learner.contracts import Gate, MemoryStore, TrainingBackend
from karen_learner.curation import Curated
from karen_learner.errors import ModelError
from karen_learner.models.files import HomeLayout, folder_bytes
from karen_learner.models.versions import labels_in
from karen_learner.records import (
    ANCHOR,
    TASKS,
    CycleContext,
    CycleRow,
    Example,
    Flips,
    Risk,
    Task,
    ValidationResult,
    Verdict,
)
from karen_learner.records.training import PipelineSpec, Predicted, PredictJob, PredictReport
from karen_learner.resolution import task_labels
from karen_learner.settings import Settings
from karen_learner.training.base import version_spec
from karen_learner.training.shadows import JudgedText, read_judged
from karen_learner.training.stage import MicroUpdate, Trained
from karen_learner.validation.evidence import Agreement, Anchor, Evidence, next_risk, share_of_equal
from karen_learner.validation.gate import QUARANTINE_AFTER, ModelValidator
from karen_learner.validation.micro import judge_update
from karen_learner.validation.results import Prediction, TaskResult
from karen_learner.validation.scoring import ScoredTexts, flips, results_by_task, summary_of_flips

logger = logging.getLogger(__name__)

MIN_RECENT_TEXTS = 30
"""Number of recent texts below which the agreement of a model with its shadows is too uncertain."""
JOURNALLED_FLIPS = 20
"""Flips of each kind in the journal."""


@dataclass(frozen=True, kw_only=True)
class Validated:
    """A candidate with its verdict and scores. `baseline` are the scores of the champion.

    `judged` are the predictions of the candidate's shadows for the judged texts, `served` those of the
    candidate itself for `trained.probes`. `flips` are the judged texts, gold and feedback, that champion and
    candidate answer differently. `best` are the tasks on which the candidate scores as well as the
    best version so far.
    """

    trained: Trained
    verdict: Verdict
    validation: ValidationResult
    baseline: ValidationResult | None
    judged: tuple[JudgedText, ...] = ()
    served: tuple[Predicted, ...] = ()
    flips: Flips | None = None
    best: tuple[Task, ...] = ()

    @property
    def cycle(self) -> CycleContext:
        return self.trained.cycle


@dataclass(eq=False, repr=False)
class ValidationStage:
    """Scores the predictions of the shadows of candidate and champion, and applies the gates."""

    backend: TrainingBackend
    validator: ModelValidator
    gate: Gate[Evidence]
    store: MemoryStore
    layout: HomeLayout
    settings: Settings

    async def validate(self, trained: Trained) -> Validated:
        """Judge the candidate. Raises TrainingError or ModelError."""
        examples = trained.folds.judged.examples
        ours = trained.predicted.predicted
        candidate = await self._score(examples, ours)
        theirs = trained.former_predicted
        champion = await self._score(examples, theirs.predicted) if theirs is not None else None
        served = await self._predict(trained, trained.candidate)
        agreement = await self._agreement(trained, served)
        anchors = await self._anchors(trained.cycle.tenant_id, examples)
        unknown_labels = await self._unknown_labels(trained)
        evidence = Evidence(
            examples=examples,
            people=trained.folds.judged.people,
            candidate=candidate,
            champion=champion,
            risk=await self._risk(trained, needs_gain=not unknown_labels),
            taught=taught_tasks(trained.curated.new),
            trained=trained.trained_tasks,
            taught_labels=frozenset(label for one in trained.curated.new for label in task_labels(one)),
            unknown_labels=unknown_labels,
            anchors=anchors,
            agreement=agreement,
            model_bytes=await call_in_executor(folder_bytes, Path(trained.candidate.path or "")),
            ms_per_text=served.ms_per_text,
            disagreements=await self._disagreements(trained),
            quorum=self.settings.learning.meaning_quorum,
        )
        verdict = await self.gate.judge(evidence)
        return Validated(
            trained=trained,
            verdict=verdict,
            validation=candidate.result,
            baseline=champion.result if champion is not None else None,
            judged=await call_in_executor(_judged_texts, examples, ours),
            served=served.predicted,
            flips=await call_in_executor(_flips, examples, theirs, ours) if theirs is not None else None,
            best=await call_in_executor(_best, examples, candidate, anchors),
        )

    async def _score(self, examples: Sequence[Example], predicted: Sequence[Predicted]) -> ScoredTexts:
        """The results on all judged texts. The scores of the model are those on gold."""
        predictions: list[Prediction] = await call_in_executor(_predictions, predicted[: len(examples)])
        gold = [at for at, example in enumerate(examples) if example.is_gold]
        scored = await self.validator.score([examples[at] for at in gold], [predictions[at] for at in gold])
        by_task: Mapping[Task, TaskResult] = await call_in_executor(results_by_task, examples, predictions)
        return replace(scored, by_task=by_task)

    async def _agreement(self, trained: Trained, served: PredictReport) -> Agreement | None:
        """The shares of recent texts for which candidate and champion answer as their shadows.

        None with too few texts, and for a champion without readable files.
        """
        texts = len(trained.recent)
        champion, theirs = trained.cycle.champion, trained.former_predicted
        if texts < MIN_RECENT_TEXTS or champion is None or theirs is None:
            return None
        try:
            spec = await version_spec(champion, trained.base)
        except ModelError as error:
            logger.warning("the agreement of %s with its shadows is unknown: %s", champion.version, error)
            return None
        before = await self._predict(trained, spec)
        judged = len(trained.folds.judged.examples)
        return Agreement(
            candidate=share_of_equal(served.predicted[:texts], trained.predicted.predicted[judged:]),
            champion=share_of_equal(before.predicted[:texts], theirs.predicted[judged:]),
            texts=texts,
        )

    async def _predict(self, trained: Trained, model: PipelineSpec) -> PredictReport:
        """The predictions of a model that serves for the probe texts."""
        return await self.backend.predict(
            PredictJob(tenant_id=trained.cycle.tenant_id, models=(model,), texts=trained.probe_path)
        )

    async def _disagreements(self, trained: Trained) -> int:
        """The number of judged feedback texts, and of texts in conflict, that people label differently."""
        judged = trained.folds.judged
        pairs = zip(judged.examples, judged.people, strict=True)
        contested = sum(not one.is_gold and one.users < len(people) for one, people in pairs)
        counts = await self.store.counts(trained.cycle.tenant_id)
        return contested + counts.examples.get("conflict", 0)

    async def _anchors(self, tenant_id: str, examples: Sequence[Example]) -> dict[Task, Anchor]:
        """The best version of each task, on the judged texts that it was judged on."""
        anchors: dict[Task, Anchor] = {}
        for task in TASKS:
            version = await self.store.alias(tenant_id, ANCHOR + task)
            if version is not None:
                folder = self.layout.shadows(tenant_id, version.version)
                successors = await self.store.label_successors(tenant_id)
                known = await call_in_executor(read_judged, folder, successors)
                positions = [at for at, one in enumerate(examples) if one.example_id in known]
                common = [examples[at] for at in positions]
                by_task: Mapping[Task, TaskResult] = await call_in_executor(_recorded, common, known)
                anchors[task] = Anchor(version=version.version, by_task=_at(by_task, positions))
        return anchors

    async def _risk(self, trained: Trained, *, needs_gain: bool) -> Risk:
        """The risk of this decision, from that of the last one. It spends nothing if no gain is needed."""
        if trained.cycle.champion is None:
            return next_risk(None, (), new_examples=False)
        row = await self.store.last_decision(trained.cycle.tenant_id)
        result = row.result if row is not None else None
        last = result.verdict.risk if result is not None and result.verdict is not None else None
        is_new = needs_gain and _has_news(trained.curated, row)
        return next_risk(last, trained.folds.judged.examples, new_examples=is_new)

    async def _unknown_labels(self, trained: Trained) -> frozenset[tuple[Task, str]]:
        """The new labels of the cycle that the candidate has learned: a pipe may not accept a label."""
        if not trained.curated.unknown_labels:
            return frozenset()
        folder, tasks = Path(trained.candidate.path or ""), trained.candidate.tasks
        learned: frozenset[tuple[Task, str]] = await call_in_executor(labels_in, folder, tasks)
        return trained.curated.unknown_labels & learned

    async def judge_update(self, update: MicroUpdate) -> Verdict:
        """The verdict on a micro-update. See `validation/micro.py`."""
        return await judge_update(self.layout, update)

    async def reject(self, validated: Validated) -> int:
        """Record the rejection on the new examples, and preload the champion for the next training.

        Returns the number of newly quarantined examples.
        """
        cycle = validated.cycle
        quarantined = await self.store.reject_examples(
            cycle.tenant_id,
            validated.trained.curated.new,
            harmful=validated.verdict.harmful,
            quarantine_at=QUARANTINE_AFTER,
            token=cycle.token,
        )
        if cycle.champion is not None:  # the worker holds the candidate in memory
            spec = await version_spec(cycle.champion, validated.trained.base)
            self.backend.preload(cycle.tenant_id, spec)
        return quarantined


def _flips(examples: Sequence[Example], before: PredictReport, after: Sequence[Predicted]) -> Flips:
    """The judged texts with other answers. The predictions may continue after those of the judged texts."""
    old, new = (
        [Prediction.from_row(one.row) for one in answers[: len(examples)]]
        for answers in (before.predicted, after)
    )
    return summary_of_flips(list(flips(examples, old, new)), limit=JOURNALLED_FLIPS)


def taught_tasks(new: Iterable[Example]) -> frozenset[Task]:
    """The tasks that the new examples label; all tasks without new examples (a forced refit)."""
    return frozenset(task for example in new for task in example.tasks) or frozenset(TASKS)


def _judged_texts(examples: Sequence[Example], predicted: Sequence[Predicted]) -> tuple[JudgedText, ...]:
    pairs = zip(examples, predicted[: len(examples)], strict=True)
    return tuple(JudgedText(example_id=one.example_id, predicted=answer) for one, answer in pairs)


def _recorded(examples: Sequence[Example], known: Mapping[str, Predicted]) -> Mapping[Task, TaskResult]:
    """The results of recorded predictions, by example id."""
    return results_by_task(examples, _predictions([known[example.example_id] for example in examples]))


def _predictions(predicted: Sequence[Predicted]) -> list[Prediction]:
    return [Prediction.from_row(one.row, one.right, one.sure) for one in predicted]


def _at(by_task: Mapping[Task, TaskResult], positions: Sequence[int]) -> dict[Task, TaskResult]:
    """Results on a part of the judged texts, with positions in all of them."""
    places = np.array(positions, dtype=np.int64)
    return {task: replace(result, positions=places[result.positions]) for task, result in by_task.items()}


def _has_news(curated: Curated, last: CycleRow | None) -> bool:
    """Whether there are examples, or labels, that the last decision was not on."""
    if not curated.new or last is None or last.result is None:
        return bool(curated.new)
    ended = last.finished_at or last.started_at
    changed = curated.counts.accepted or len(curated.new) != last.result.training_examples
    return bool(changed) or any(example.created_at > ended for example in curated.new)


def _best(
    examples: Sequence[Example], candidate: ScoredTexts, anchors: Mapping[Task, Anchor]
) -> tuple[Task, ...]:
    """The tasks on which the candidate scores as well as the best version so far.

    A version with fewer than half of the judged gold is replaced, too: it cannot be compared any more.
    """
    gold = np.array([example.is_gold for example in examples], dtype=bool)
    best: list[Task] = []
    for task, result in candidate.by_task.items():
        ours = result.select(gold[result.positions])
        theirs = anchors[task].by_task.get(task) if task in anchors else None
        if theirs is not None:
            theirs = theirs.select(gold[theirs.positions])
            common = ours.select(np.isin(ours.positions, theirs.positions))
            if 2 * common.texts >= ours.texts and common.score < theirs.score:
                continue
        if ours.texts:
            best.append(task)
    return tuple(best)
