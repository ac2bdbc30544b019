"""`alerts`: the incidents that wait for people."""

from __future__ import annotations

from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import argument, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def alerts(
    run: Context,
    tenant: Annotated[str | None, argument("[TENANT]", "Only this tenant.")] = None,
) -> int:
    """List the incidents that no remedy has ended, and that wait for people.

    Exit codes: 0 none waits, 7 one does, apart from acknowledged ones.
    """
    from karen_learner.cli.render_autonomy import incident_table

    async with run.learner(tenant) as learner:
        unended = await learner.store.unended_incidents()
    found = [one for one in unended if one.state == "escalated" and tenant in (None, one.tenant_id)]
    run.output.result([one.to_dict() for one in found], *incident_table(found))
    return ExitCode.UNHEALTHY if any(one.acknowledged is None for one in found) else ExitCode.OK
