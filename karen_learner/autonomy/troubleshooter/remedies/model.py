"""Remedies that change the model or its examples."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from karen_learner.autonomy.troubleshooter.remedies.remedy import Care, Facts, Remedy, Token, always
from karen_learner.errors import KarenLearnerError
from karen_learner.records import LearningCycleResult

Mode = Literal["auto", "full"]
MAX_QUARANTINED = 2_000


async def _can_roll_back(care: Care) -> Token | None:
    """The versions before and after, if the version that serves has a parent that exists."""
    status = care.situation.status
    serving = status.serving if status is not None else None
    if serving is None or serving.parent is None:
        return None
    target = await care.learner.store.get_version(care.tenant_id, serving.parent)
    if target is None or target.removed or target.provisional:
        return None
    return {"from": serving.version, "to": serving.parent}


async def _roll_back(care: Care, token: Token) -> Facts:
    found = await care.learner.rollback(care.tenant_id, token["to"])
    return {"from": token["from"], "to": found.version}


async def _roll_forward(care: Care, token: Token) -> Facts:
    """Make the former version the champion again, unless it has changed since."""
    champion = await care.learner.store.champion(care.tenant_id)
    former = await care.learner.store.get_version(care.tenant_id, token["from"])
    if champion is None or champion.version != token["to"] or former is None or former.provisional:
        return {"unchanged": champion.version if champion is not None else None}
    found = await care.learner.rollback(care.tenant_id, token["from"])
    return {"to": found.version}


async def _rejected_batch(care: Care) -> Token | None:
    """The pending feedback that the last rejected candidate learned."""
    decided = next((one for one in care.situation.results if one.verdict is not None), None)
    if decided is None or decided.verdict is None or decided.verdict.accepted:
        return None
    ids: list[str] = []
    async for one in care.learner.store.examples(care.tenant_id, state="pending", gold=False):
        if one.created_at <= decided.started_at + timedelta(seconds=decided.duration_s):
            ids.append(one.example_id)
        if len(ids) >= MAX_QUARANTINED:
            break
    return {"ids": ids} if ids else None


async def _quarantine(care: Care, token: Token) -> Facts:
    count = await care.learner.maintenance.set_aside(care.tenant_id, token["ids"])
    return {"examples": count, "decide_with": "karen-learner quarantine"}


async def _end_quarantine(care: Care, token: Token) -> Facts:
    return {"pending": await care.learner.store.decide_examples(care.tenant_id, token["ids"], release=True)}


async def _restore(care: Care, _token: Token) -> Facts:
    report = await care.learner.repair(care.tenant_id)
    return {"action": report.action, "done": int(report.done)}


async def _champion(care: Care) -> Token | None:
    """The version before a training, to which an undo returns."""
    status = care.situation.status
    champion = status.champion if status is not None else None
    return None if champion is None else {"before": champion.version}


async def _learn(care: Care, _token: Token) -> Facts:
    return _facts(await _cycle(care, "auto"))


async def _train_in_full(care: Care, _token: Token) -> Facts:
    return _facts(await _cycle(care, "full"))


async def _cycle(care: Care, mode: Mode) -> LearningCycleResult:
    return await care.learner.trigger_learning_cycle(
        care.tenant_id, force_training=True, mode=mode, reason="a remedy of the troubleshooter"
    )


def _facts(result: LearningCycleResult) -> Facts:
    return {"cycle": result.cycle_id, "status": result.status, "version": result.model_version}


async def _undo_training(care: Care, token: Token) -> Facts:
    """Go back to the version before a training that the gates had accepted, but that did not help."""
    champion = await care.learner.store.champion(care.tenant_id)
    if champion is None or champion.version == token["before"] or champion.parent != token["before"]:
        return {"unchanged": champion.version if champion is not None else None}
    try:
        found = await care.learner.rollback(care.tenant_id, token["before"])
    except KarenLearnerError as error:
        return {"not_undone": type(error).__name__}
    return {"to": found.version}


QUARANTINE_BATCH = Remedy(
    "quarantine the pending feedback of the rejected candidates",
    _rejected_batch,
    _quarantine,
    _end_quarantine,
    is_notable=True,
)
RESTORE_VERSION = Remedy(
    "restore the version from its backup, else train it anew from the stored examples", always, _restore
)
LEARNING_CYCLE = Remedy("run a learning cycle", _champion, _learn, _undo_training)
FULL_TRAINING = Remedy("train a new model on all examples", _champion, _train_in_full, _undo_training)
ROLLBACK = Remedy(
    "roll back to the parent version", _can_roll_back, _roll_back, _roll_forward, is_notable=True
)
