"""`create_autonomous_learner`: puts a learner together from what the caller has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from karen_learner.analysis import create_spacy_analyzer, live_models_of
from karen_learner.contracts import Analyzer, MemoryStore
from karen_learner.integrations import as_analyzer, as_host_memory
from karen_learner.learner import AutonomousLearner
from karen_learner.settings import Settings, load_settings


def create_autonomous_learner(
    home: Path | str = ".",
    *,
    spacy_analyzer: Analyzer | object | None = None,
    memory_service: object | None = None,
    model_backup_dir: Path | str | None = None,
    settings: Settings | Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    store: MemoryStore | None = None,
) -> AutonomousLearner:
    """A learner whose data lies below `home`; by default with SQLite and a local worker process.

    `spacy_analyzer` is one of ours (see `create_spacy_analyzer`: its pipeline is then what new tenants
    start from), any object with the methods of `Analyzer`, or a host's with `_detect_intent_async` and
    its kin. `memory_service` receives every stored turn: an object with `remember`, or a host's with
    `store_web_ui_memory`. `settings` is a `.cfg` file or loaded settings; `overrides` maps dotted names
    (`"learning.min_data_threshold"`) to values. Raises SettingsError.
    """
    chosen = settings if isinstance(settings, Settings) else load_settings(settings, overrides=overrides)
    if isinstance(settings, Settings) and overrides:
        chosen = load_settings(overrides={**settings.dump(), **dict(overrides)})
    if spacy_analyzer is None:
        spacy_analyzer = create_spacy_analyzer(language=chosen.training.language, settings=chosen)
    analyzer = as_analyzer(spacy_analyzer)
    return AutonomousLearner(
        Path(home),
        chosen,
        analyzer,
        models=live_models_of(analyzer, limit=chosen.analysis.live_models),
        memory_service=as_host_memory(memory_service) if memory_service is not None else None,
        model_backup_dir=Path(model_backup_dir) if model_backup_dir is not None else None,
        store=store,
    )
