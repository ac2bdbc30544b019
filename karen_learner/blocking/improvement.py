"""The analysis engine for synchronous code."""

from __future__ import annotations

from typing import Self

from karen_learner.blocking.learner import BlockingLearner
from karen_learner.blocking.portal import Blocking, blocking
from karen_learner.contracts import Clock
from karen_learner.improvement.engine import AIAnalysisEngine as AsyncEngine
from karen_learner.improvement.engine import AnalysisConfig
from karen_learner.records import utc_now


class AIAnalysisEngine(Blocking[AsyncEngine]):
    """`improvement.AIAnalysisEngine` for synchronous code. With a learner it shares the learner's thread."""

    def __init__(
        self,
        config: AnalysisConfig | None = None,
        *,
        learner: BlockingLearner | None = None,
        clock: Clock = utc_now,
    ) -> None:
        twin = AsyncEngine(config, learner=None if learner is None else learner.learner, clock=clock)
        super().__init__(twin, None if learner is None else learner.portal)
        self._owns_portal = learner is None
        self.calculate_roi = twin.calculate_roi

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store and the thread that this object made."""
        self._portal.call(self._twin.close)
        if self._owns_portal:
            self._portal.close()

    analyze_weekly_performance = blocking(AsyncEngine.analyze_weekly_performance)
    evidence = blocking(AsyncEngine.evidence)
