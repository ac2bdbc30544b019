"""Settings as shipped, and scoring under their thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from karen_learner.records import Example
from karen_learner.settings import Settings, load_settings
from karen_learner.validation import Prediction, ScoredHoldout, score


@pytest.fixture
def settings() -> Settings:
    return load_settings(environment={})


@pytest.fixture
def scored(settings: Settings) -> Callable[..., ScoredHoldout]:
    def run(examples: Sequence[Example], predictions: Sequence[Prediction], **options: Any) -> ScoredHoldout:
        return score(examples, predictions, thresholds=settings.thresholds, **options)

    return run
