"""Settings as shipped, and scoring under their thresholds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pytest

from karen_learner.records import TASKS, Example, Task
from karen_learner.settings import Settings, load_settings
from karen_learner.validation import Prediction, ScoredTexts, score


@pytest.fixture
def settings() -> Settings:
    return load_settings(environment={})


@pytest.fixture
def scored(settings: Settings) -> Callable[..., ScoredTexts]:
    def run(
        examples: Sequence[Example], predictions: Sequence[Prediction], tasks: Collection[Task] = TASKS
    ) -> ScoredTexts:
        unknown = {task: None for task in TASKS if task not in tasks}
        labelled = [example.model_copy(update=unknown) for example in examples]
        return score(labelled, predictions, thresholds=settings.thresholds)

    return run
