"""`create_autonomous_learner`: the public constructor of a learner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from karen_learner.contracts import MemoryStore
from karen_learner.learner import AutonomousLearner
from karen_learner.settings import Settings


def create_autonomous_learner(
    home: Path | str = ".",
    *,
    spacy_analyzer: object | None = None,
    memory_service: object | None = None,
    model_backup_dir: Path | str | None = None,
    settings: Settings | Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    store: MemoryStore | None = None,
) -> AutonomousLearner:
    """A learner with its data below `home`. Defaults: SQLite and a local worker process.

    `spacy_analyzer` is one of ours (`create_spacy_analyzer`; new tenants then start from its pipeline), an
    `Analyzer`, or a host's object with `_detect_intent_async`, `_sentiment_async` and `_entities_async`.
    `memory_service` receives every stored turn: a `HostMemory`, or a host's object with `store_web_ui_memory`
    and `query_memories`. `settings` is a `.cfg` file or loaded settings. `overrides` maps dotted names
    (`"learning.min_data_threshold"`) to values. Raises SettingsError.
    """
    return AutonomousLearner(
        home,
        spacy_analyzer=spacy_analyzer,
        memory_service=memory_service,
        model_backup_dir=model_backup_dir,
        settings=settings,
        overrides=overrides,
        store=store,
    )
