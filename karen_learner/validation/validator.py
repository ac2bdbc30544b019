"""The validator: scores models and judges candidates by the settings in force."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from karen_learner.records import TASKS, Example, Task, Verdict
from karen_learner.settings import Settings
from karen_learner.validation.gate import judge
from karen_learner.validation.predictions import Prediction
from karen_learner.validation.scoring import ScoredHoldout, score


class ModelValidator:
    """`score` and `judge` with the thresholds and margins of `settings`, read anew at each call.

    Both compute in a thread: a holdout of 3,000 texts keeps a core busy for some tenths of a second.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def score(
        self,
        examples: Sequence[Example],
        predictions: Sequence[Prediction],
        *,
        tasks: Collection[Task] = TASKS,
    ) -> ScoredHoldout:
        """The scores of one model, from one prediction for each example. See `scoring.score`."""
        thresholds = self._settings.thresholds.model_copy()
        return await asyncio.to_thread(score, examples, predictions, tasks=tasks, thresholds=thresholds)

    async def judge(
        self,
        candidate: ScoredHoldout,
        champion: ScoredHoldout | None,
        *,
        taught: Collection[Task] = TASKS,
    ) -> Verdict:
        """Whether the candidate may replace the champion. See `gate.judge`."""
        gate, thresholds = self._settings.gate.model_copy(), self._settings.thresholds.model_copy()
        return await asyncio.to_thread(
            judge, candidate, champion, gate=gate, thresholds=thresholds, taught=taught
        )
