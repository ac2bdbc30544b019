"""`versions`: model versions of a tenant."""

from __future__ import annotations

from karen_learner.cli.context import Context
from karen_learner.cli.options import Limit, Tenant, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def versions(run: Context, tenant: Tenant, limit: Limit = 100) -> int:
    """List the model versions of a tenant, newest first. Marks the live one."""
    from karen_learner.cli import render

    async with run.learner(tenant) as learner:
        found = await learner.versions(tenant, limit=limit)
        champion = (await learner.status(tenant)).serving
    live = champion.version if champion else None
    document = [version.to_dict() | {"live": version.version == live} for version in found]
    run.output.result(document, *render.versions(found, live, run.home))
    return ExitCode.OK
