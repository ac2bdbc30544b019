"""The validation stage of a cycle: candidate and champion on the holdout become a verdict."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from karen_learner.contracts import Gate, MemoryStore, TrainingBackend
from karen_learner.errors import ModelError, TrainingError
from karen_learner.records import (
    TASKS,
    CycleContext,
    Example,
    Task,
    ValidationResult,
    Verdict,
)
from karen_learner.records.training import (
    CrossValidateJob,
    PipelineSpec,
    PredictionRow,
    PredictJob,
    RightRow,
)
from karen_learner.settings import Settings
from karen_learner.training.stage import Trained, version_spec
from karen_learner.validation.gate import QUARANTINE_AFTER, ModelValidator
from karen_learner.validation.results import Prediction
from karen_learner.validation.scoring import ScoredTexts

logger = logging.getLogger(__name__)


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
    gate: Gate[ScoredTexts]
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
        verdict = await self.gate.judge(scored, baseline, taught=taught_tasks(trained))
        return Validated(
            trained=trained,
            verdict=verdict,
            validation=scored.result,
            baseline=baseline.result if baseline is not None else None,
            champion=champion,
        )

    async def _score(
        self, holdout: Sequence[Example], rows: Sequence[PredictionRow], right: Sequence[RightRow]
    ) -> ScoredTexts:
        predictions = [Prediction.from_row(*both) for both in zip(rows, right, strict=True)]
        return await self.validator.score(holdout, predictions)

    async def with_estimates(self, validated: Validated) -> Validated:
        """With cross-validated scores, if the holdout is small. Without them, the verdict is the same.

        A failure is logged. Raises LearnerClosed if the backend was closed.
        """
        trained, gate = validated.trained, self.settings.gate
        examples = len(trained.curated.new) + len(trained.curated.replay)
        small = any(count < gate.small_holdout for count in validated.validation.counts.values())
        if trained.cycle.mode != "full" or not small or not 0 < examples <= gate.max_cross_validated:
            return validated
        job = CrossValidateJob(
            tenant_id=trained.cycle.tenant_id,
            pipeline=trained.base,
            corpus=trained.corpus,
            labels=trained.labels,
            settings=self.settings.training,
        )
        try:
            scores = (await self.backend.cross_validate(job)).scores
        except (TrainingError, ModelError) as error:
            await self.backend.start()  # a closed backend ends the cycle
            logger.warning("cycle %s has no cross-validated scores: %s", trained.cycle.cycle_id, error)
            return validated
        result = validated.validation.model_copy(update={"cross_validated": scores})
        return replace(validated, validation=result)

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


def taught_tasks(trained: Trained) -> frozenset[Task]:
    """The tasks that the new examples label; all tasks without new examples (a forced refit)."""
    new = trained.curated.new
    return frozenset(task for example in new for task in example.tasks) or frozenset(TASKS)
