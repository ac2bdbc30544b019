"""The validation stage of a cycle: candidate and champion on the holdout become a verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from karen_learner.contracts import Gate, MemoryStore, TrainingBackend
from karen_learner.records import (
    CATEGORY_TASKS,
    TASKS,
    CycleContext,
    Example,
    Risk,
    Task,
    ValidationResult,
    Verdict,
)
from karen_learner.records.training import (
    PipelineSpec,
    PredictionRow,
    PredictJob,
    RightRow,
)
from karen_learner.settings import Settings
from karen_learner.training.stage import Trained, version_spec
from karen_learner.validation.evidence import Evidence
from karen_learner.validation.gate import QUARANTINE_AFTER, ModelValidator
from karen_learner.validation.results import Prediction
from karen_learner.validation.risk import next_risk
from karen_learner.validation.scoring import ScoredTexts

JOURNAL_ROWS = 100
"""Rows of the journal that are searched for the last risk."""


@dataclass(frozen=True, kw_only=True)
class Validated:
    """A candidate with its verdict and scores. `baseline` are the scores of the champion."""

    trained: Trained
    verdict: Verdict
    validation: ValidationResult
    baseline: ValidationResult | None
    champion: PipelineSpec | None

    @property
    def cycle(self) -> CycleContext:
        return self.trained.cycle


@dataclass(eq=False, repr=False)
class ValidationStage:
    """Predicts the holdout with candidate and champion, scores both and applies the gate."""

    backend: TrainingBackend
    validator: ModelValidator
    gate: Gate[Evidence]
    store: MemoryStore
    settings: Settings

    async def validate(self, trained: Trained) -> Validated:
        """Judge the candidate. Raises TrainingError or ModelError."""
        version = trained.cycle.champion
        champion = await version_spec(version, trained.base) if version is not None else None
        models = (trained.candidate, champion) if champion is not None else (trained.candidate,)
        predicted = await self.backend.predict(
            PredictJob(tenant_id=trained.cycle.tenant_id, models=models, corpus=trained.corpus)
        )
        scored, *others = await asyncio.gather(
            *(
                self._score(trained.holdout, rows, right)
                for rows, right in zip(predicted.rows, predicted.right, strict=True)
            )
        )
        baseline = others[0] if others else None
        verdict = await self.gate.judge(await self._evidence(trained, scored, baseline))
        return Validated(
            trained=trained,
            verdict=verdict,
            validation=scored.result,
            baseline=baseline.result if baseline is not None else None,
            champion=champion,
        )

    async def _evidence(
        self, trained: Trained, candidate: ScoredTexts, champion: ScoredTexts | None
    ) -> Evidence:
        new, replay = trained.curated.new, trained.curated.replay
        taught = label_set(new)
        last = await self._last_risk(trained.cycle.tenant_id)
        return Evidence(
            examples=trained.holdout,
            people=((),) * len(trained.holdout),
            candidate=candidate,
            champion=champion,
            risk=next_risk(last, trained.holdout, new_examples=bool(new)),
            taught=frozenset(task for example in new for task in example.tasks),
            trained=frozenset(TASKS),
            taught_labels=taught,
            unknown_labels=taught - label_set(replay) if replay else frozenset(),
        )

    async def _last_risk(self, tenant_id: str) -> Risk | None:
        """The risk of the last verdict in the journal."""
        for row in await self.store.cycles(tenant_id, limit=JOURNAL_ROWS):
            if (
                row.result is not None
                and row.result.verdict is not None
                and row.result.verdict.risk is not None
            ):
                return row.result.verdict.risk
        return None

    async def _score(
        self, holdout: Sequence[Example], rows: Sequence[PredictionRow], right: Sequence[RightRow]
    ) -> ScoredTexts:
        predictions = [Prediction.from_row(*both) for both in zip(rows, right, strict=True)]
        return await self.validator.score(holdout, predictions)

    async def reject(self, validated: Validated) -> None:
        """Record the rejection on the new examples, and preload the champion for the next training."""
        cycle = validated.cycle
        await self.store.reject_examples(
            cycle.tenant_id,
            validated.trained.curated.new,
            harmful=validated.verdict.harmful,
            quarantine_at=QUARANTINE_AFTER,
            token=cycle.token,
        )
        if validated.champion is not None:  # the worker holds the candidate in memory
            self.backend.preload(cycle.tenant_id, validated.champion)


def label_set(examples: Iterable[Example]) -> frozenset[tuple[Task, str]]:
    """All labels of examples, with their tasks."""
    found: set[tuple[Task, str]] = set()
    for example in examples:
        found |= {(task, example[task]) for task in CATEGORY_TASKS if example[task] is not None}
        found |= {("entities", span.label) for span in example.entities or ()}
    return frozenset(found)
