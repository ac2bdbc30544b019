"""`versions`: model versions of a tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from karen_learner.cli import render
from karen_learner.cli.context import Context
from karen_learner.cli.options import Limit, Tenant, with_common_options
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import ModelVersion


@with_common_options
def versions(run: Context, tenant: Tenant, limit: Limit = 100) -> int:
    """List the model versions of a tenant, newest first. Marks the live one."""
    found, champion = run.run(lambda learner: with_champion(learner, tenant, limit), tenant=tenant)
    document = [version.to_dict() | {"live": version.version == champion} for version in found]
    run.output.result(document, render.versions(found, champion))
    return ExitCode.OK


async def with_champion(
    learner: AutonomousLearner, tenant: str, limit: int
) -> tuple[Sequence[ModelVersion], str | None]:
    """The versions, and the name of the champion."""
    found = await learner.versions(tenant, limit=limit)
    champion = (await learner.status(tenant)).champion
    return found, champion.version if champion else None
