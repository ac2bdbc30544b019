"""Remedies for the worker, crashed cycles, the stream and the live model."""

from __future__ import annotations

from karen_learner.autonomy.troubleshooter.remedies.remedy import Care, Facts, Remedy, Token, always


async def _restart_worker(care: Care, _token: Token) -> Facts:
    return {"restarted": int(await care.learner.maintenance.restart_worker())}


async def _recover(care: Care, _token: Token) -> Facts:
    await care.learner.maintenance.recover(care.tenant_id)
    return {}


async def _has_stream(care: Care) -> Token | None:
    return {} if care.stream is not None else None


async def _restart_stream(care: Care, _token: Token) -> Facts:
    if care.stream is not None:
        await care.stream.stop()
        await care.stream.start()
    return {}


async def _reload(care: Care, _token: Token) -> Facts:
    return {"loaded": int(await care.learner.maintenance.reload(care.tenant_id))}


RESTART_WORKER = Remedy("restart the training worker; a running cycle fails", always, _restart_worker)
RECOVER_CYCLES = Remedy("journal crashed cycles as failed, and remove their files", always, _recover)
RESTART_STREAM = Remedy("restart the stream of events", _has_stream, _restart_stream)
RELOAD_MODEL = Remedy("load the live model again", always, _reload)
