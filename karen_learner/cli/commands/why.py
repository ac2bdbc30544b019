"""`why`: the condition tree of a tenant at the last tick, or now."""

from __future__ import annotations

from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, flag, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def why(
    run: Context,
    tenant: Tenant,
    now: Annotated[bool, flag("--now", "Evaluate the conditions now, also if a service runs.")] = False,
) -> int:
    """Show why a cycle began at the last tick of the service, or why not: each condition with its reading.

    Exit codes: 0 the conditions hold, 4 they do not.
    """
    from karen_learner.autonomy.service import AutonomousService
    from karen_learner.autonomy.triggers.part import last_tick
    from karen_learner.cli.render_autonomy import condition_tree

    async with run.learner(tenant) as learner:
        await learner.status(tenant)
        tick = None if now else await last_tick(learner.store, tenant)
        if tick is None:
            if not now:
                run.output.note("there was no tick of the service yet: these are the conditions now")
            tick = (await AutonomousService(learner, tenants=[tenant]).preview())[0]
    run.output.result(tick.to_dict(), *condition_tree(tick))
    return ExitCode.OK if tick.fires else ExitCode.SKIPPED
