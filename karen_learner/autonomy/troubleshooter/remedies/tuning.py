"""Remedies that change settings for one tenant, or for the home, and repeat the failed work."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from karen_learner.autonomy.troubleshooter.remedies.remedy import Care, Facts, Remedy, Token
from karen_learner.errors import SettingsError
from karen_learner.records.incidents import Incident
from karen_learner.settings import Adjustment, Settings, load_settings

logger = logging.getLogger(__name__)

Changes = Callable[[Settings], Mapping[str, Any]]
"""New values of settings, by dotted name."""
MAX_REPLAY = 20_000
RETENTION_DAYS = 3.0
RESET_SECTIONS = ("training", "learning")
KEPT_SETTINGS = frozenset({"language", "pipeline", "imports", "seed", "backup_retention_days",
                           "corpus_retention_days", "retention_bytes", "min_data_threshold",
                           "validation_split"})  # fmt: skip
"""Settings that a reset of parameters does not touch: they do not control a training."""


def adjustment(tenant_id: str | None, token: Token | None) -> Adjustment | None:
    """The change of settings that a token describes; None if it describes another act."""
    before, after = (token or {}).get("before"), (token or {}).get("after")
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return None
    return Adjustment(tenant_id, before, after)


def repeat(settings: Settings, incident: Incident) -> None:
    """Repeat the changes of settings of an incident after a restart."""
    for token in (*incident.kept.values(), incident.token):
        one = adjustment(incident.tenant_id, token)
        if one is not None:
            try:
                settings.adjust(one)
            except SettingsError as error:  # a setting of another release
                logger.warning("a change of settings is not repeated: %s", error)


def _remedy(
    solution: str, changes: Changes, then: Callable[[Care], Awaitable[Facts]] | None = None, **more: Any
) -> Remedy:
    async def prepare(care: Care) -> Token | None:
        settings = care.learner.settings.of(care.situation.tenant_id)
        before = {name: settings.value(name) for name in changes(settings)}
        after = {name: value for name, value in changes(settings).items() if value != before[name]}
        return {"before": {name: before[name] for name in after}, "after": after} if after else None

    async def apply(care: Care, token: Token) -> Facts:
        one = adjustment(care.situation.tenant_id, token)
        if one is None:
            return {}
        care.learner.settings.adjust(one)
        return {**_facts(one.after), **(await then(care) if then is not None else {})}

    async def undo(care: Care, token: Token) -> Facts:
        one = adjustment(care.situation.tenant_id, token)
        if one is None:
            return {}
        care.learner.settings.end_adjustment(one)
        if then is _reload:
            await _reload(care)
        return _facts(one.before)

    return Remedy(solution, prepare, apply, undo, is_setting=True, **more)


def _facts(values: Mapping[str, Any]) -> Facts:
    return {
        name: value if isinstance(value, (int, float, str)) else str(value) for name, value in values.items()
    }


async def _train(care: Care) -> Facts:
    """Repeat the failed learning cycle in its mode, which tells whether the change helps."""
    last = next(iter(care.situation.results), None)
    result = await care.learner.trigger_learning_cycle(
        care.tenant_id,
        force_training=True,
        mode=last.mode if last is not None and last.status == "failed" else "auto",
        reason="a remedy of the troubleshooter",
    )
    return {"cycle": result.cycle_id, "status": result.status}


async def _reload(care: Care) -> Facts:
    return {"reloaded": int(await care.learner.maintenance.reload(care.tenant_id))}


async def _prune(care: Care) -> Facts:
    size = 0
    for tenant_id in await care.learner.tenants():
        size += (await care.learner.prune(tenant_id)).size
    return {"freed_bytes": size}


def _reset(_settings: Settings) -> Mapping[str, Any]:
    shipped = load_settings(environment={})
    return {
        f"{section}.{name}": shipped.value(f"{section}.{name}")
        for section in RESET_SECTIONS
        for name in type(getattr(shipped, section)).model_fields
        if name not in KEPT_SETTINGS
    }


SMALLER_BATCHES = _remedy(
    "train with half the batch size",
    lambda settings: {"training.batch_size": max(4, settings.training.batch_size // 2)},
    _train,
)
SMALLER_CYCLES = _remedy(
    "train on a quarter of the examples in a cycle",
    lambda settings: {
        "learning.max_training_examples": max(50, settings.learning.max_training_examples // 4),
        "learning.replay_examples": max(50, settings.learning.replay_examples // 4),
        "learning.max_full_examples": max(1_000, settings.learning.max_full_examples // 4),
    },
    _train,
)
LOWER_RATE = _remedy(
    "train with a tenth of the learn rate",
    lambda settings: {"training.learn_rate": settings.training.learn_rate / 10.0},
    _train,
)
MORE_REPLAY = _remedy(
    "replay twice as many learned examples",
    lambda settings: {
        "learning.replay_examples": min(MAX_REPLAY, 2 * settings.learning.replay_examples + 100)
    },
    _train,
)
RESET_PARAMETERS = _remedy("train with the shipped values of all training settings", _reset, _train)
FALLBACK_RULES = _remedy(
    "answer by the rules of the fallback until the model is back",
    lambda _settings: {"analysis.fallback": "rules"},
    is_notable=True,
)
SHORTEN_RETENTION = _remedy(
    f"keep old versions, backups and corpora for {RETENTION_DAYS:.0f} days",
    lambda settings: {
        "learning.backup_retention_days": min(RETENTION_DAYS, settings.learning.backup_retention_days),
        "learning.corpus_retention_days": min(RETENTION_DAYS, settings.learning.corpus_retention_days),
    },
    _prune,
    is_notable=True,
)
SMALLER_ANALYSIS_BATCHES = _remedy(
    "analyse smaller batches, with a newly loaded model",
    lambda settings: {"analysis.max_batch": max(1, settings.analysis.max_batch // 4)},
    _reload,
)
