"""Remedies that free space."""

from __future__ import annotations

from karen_learner.autonomy.troubleshooter.remedies.remedy import Care, Facts, Remedy, Token, always


async def _prune(care: Care, _token: Token) -> Facts:
    """Remove files beyond retention, of all tenants."""
    size = files = 0
    for tenant_id in await care.learner.tenants():
        report = await care.learner.prune(tenant_id)
        size, files = size + report.size, files + len(report.removed)
    return {"files": files, "freed_bytes": size}


async def _vacuum(care: Care, _token: Token) -> Facts:
    return {"freed_bytes": await care.learner.store.vacuum()}


async def _has_free_pages(care: Care) -> Token | None:
    return {} if care.situation.database[1] > 0 else None


PRUNE = Remedy("remove versions, backups and corpora beyond retention", always, _prune)
VACUUM = Remedy("rewrite the database without its free pages", _has_free_pages, _vacuum)
