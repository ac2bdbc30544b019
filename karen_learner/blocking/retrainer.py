"""The retrainer for synchronous code."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from karen_learner.autonomy.retrainer import AutomatedRetrainer as AsyncRetrainer
from karen_learner.autonomy.retrainer import RetrainMode
from karen_learner.blocking.learner import BlockingLearner
from karen_learner.blocking.portal import Blocking, blocking
from karen_learner.learner import AutonomousLearner


class AutomatedRetrainer(Blocking[AsyncRetrainer]):
    """`autonomy.retrainer.AutomatedRetrainer` for synchronous code. Without a learner: one of the `home`.

    Raises InvalidInput.
    """

    def __init__(
        self,
        learner: BlockingLearner | None = None,
        *,
        tenant_id: str = "default",
        home: Path | str = ".",
        min_days: float = 30.0,
        min_new_samples: int = 50,
        mode: RetrainMode = "auto",
    ) -> None:
        used = learner or BlockingLearner(AutonomousLearner(home))
        self._own = used if learner is None else None
        twin = AsyncRetrainer(
            used.learner, tenant_id=tenant_id, min_days=min_days, min_new_samples=min_new_samples, mode=mode
        )
        super().__init__(twin, used.portal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the learner that this object made. Idempotent."""
        if self._own is not None:
            self._own.close()

    retrain = blocking(AsyncRetrainer.retrain)
    should_retrain = blocking(AsyncRetrainer.should_retrain)
    status = blocking(AsyncRetrainer.status)
