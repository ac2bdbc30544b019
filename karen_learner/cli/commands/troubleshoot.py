"""`troubleshoot`: find and mend the problems of a tenant and its home."""

from __future__ import annotations

from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, flag, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def troubleshoot(
    run: Context,
    tenant: Tenant,
    dry_run: Annotated[
        bool, flag("--dry-run", "Show problems and their next remedies. Change nothing.")
    ] = False,
) -> int:
    """Examine a tenant and its home, and apply the next remedy of each problem that is due.

    Exit codes: 0 no problem is left, 7 one is.
    """
    from karen_learner.autonomy.troubleshooter import AutomatedTroubleshooter
    from karen_learner.cli.render_autonomy import issue_lines
    from karen_learner.monitoring.readings import Readings

    async with run.learner(tenant) as learner:
        await learner.status(tenant)  # raises UnknownTenant
        readings = Readings(learner.store, learner.layout, learner.settings)
        found = AutomatedTroubleshooter(learner, tenant_id=tenant, readings=readings.refresh)
        issues = await found.diagnose_and_fix(dry_run=dry_run)
        await found.stop()
    run.output.result([one.to_dict() for one in issues], *issue_lines(issues))
    return ExitCode.UNHEALTHY if any(one.state != "resolved" for one in issues) else ExitCode.OK
