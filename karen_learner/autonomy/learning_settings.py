"""Settings of `AutomatedLearningSystem`, from a mapping or a JSON file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from karen_learner.errors import SettingsError
from karen_learner.records import Record, Score


class LearningSystemSettings(Record):
    """Limits of the success rate, and the reactions that are enabled.

    The success rate is that of the newest attempts. Below `performance_threshold` a domain uses another
    strategy, below `auto_retrain_trigger` the model is retrained, below `performance_alert_threshold` an
    alert is raised. `training_frequency` is the number of seconds between two analyses, and between two
    trainings. After `consecutive_failures_threshold` failures in a row a domain uses another strategy.
    """

    training_frequency: Annotated[float, Field(gt=0.0, le=1e9)] = 3600.0
    performance_threshold: Score = 0.15
    auto_retrain_trigger: Score = 0.10
    consecutive_failures_threshold: Annotated[int, Field(ge=1)] = 5
    enable_auto_troubleshooting: bool = True
    enable_strategy_optimization: bool = True
    enable_model_retraining: bool = True
    performance_alert_threshold: Score = 0.05

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not (self.performance_alert_threshold <= self.auto_retrain_trigger <= self.performance_threshold):
            raise ValueError(
                "performance_alert_threshold must be at most auto_retrain_trigger, and this at most "
                "performance_threshold"
            )
        return self


def read_learning_settings(
    given: LearningSystemSettings | Mapping[str, Any] | Path | str | None,
) -> LearningSystemSettings:
    """The settings of a mapping, or of the object in a JSON file. Raises SettingsError."""
    if isinstance(given, LearningSystemSettings):
        return given
    values = _from_json(Path(given)) if isinstance(given, (str, Path)) else given or {}
    known = LearningSystemSettings.model_fields
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
            raise SettingsError(
                f"unknown setting {name!r:.60} of the learning system: did you mean {near[0]!r}?"
            )
    try:
        return LearningSystemSettings.model_validate(dict(values))
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, one['loc'])) or 'settings'}: {one['msg']}" for one in error.errors())
        raise SettingsError(f"the learning system: {'; '.join(problems)}") from error


def _from_json(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the settings file {path}: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"the settings file {path} must contain one JSON object")
    return values
