"""`run`: the autonomous service of a home."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import flag, option, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def run(
    run: Context,
    tenant: Annotated[
        list[str] | None, option("TENANT", "Serve this tenant only. Repeatable.", "--tenant")
    ] = None,
    once: Annotated[bool, flag("--once", "Make one tick, and end after the cycles that it begins.")] = False,
    dry_run: Annotated[bool, flag("--dry-run", "Show which cycles would begin now. Begin none.")] = False,
) -> int:
    """Run the autonomous service: readings, triggers and schedules decide when each tenant learns.

    It also reads the stream of the settings `[stream]`, mends problems, delivers notifications, and makes
    reports.

    It ends at SIGTERM or Ctrl-C, after the running cycle or 30 seconds. One service runs on a home at a time.

    Exit codes: 0 ended, 1 another service runs on this home.
    """
    from karen_learner.autonomy.health_part import HealthPart
    from karen_learner.autonomy.improvement_part import ImprovementPart
    from karen_learner.autonomy.notifications import Notifier
    from karen_learner.autonomy.notify_part import NotifyPart
    from karen_learner.autonomy.service import AutonomousService, MakePart
    from karen_learner.autonomy.stream.part import StreamPart
    from karen_learner.autonomy.troubleshooter.part import MendingPart
    from karen_learner.cli.render_autonomy import condition_tree
    from karen_learner.reports.part import ReportPart

    async with run.learner(tenant[0] if tenant else None) as learner:
        for name in tenant or ():
            await learner.status(name)  # raises UnknownTenant
        notifier = Notifier(learner.store, learner.settings.notifications)
        told = NotifyPart(notifier, learner.events)
        stream = StreamPart(learner) if learner.settings.stream.servers else None
        mending = MendingPart(learner, notifier, tenants=tenant or (), stream=stream)
        reporting = ReportPart(learner, tenants=tenant or (), on_alert=told.alert)
        health = partial(HealthPart.join, learner)
        parts: list[MakePart] = [
            mending.join, health, lambda _: told, ImprovementPart.join, lambda _: reporting
        ]  # fmt: skip
        if stream is not None:
            parts.insert(0, lambda _: stream)
        service = AutonomousService(learner, tenants=tenant or (), parts=parts, on_alert=told.alert)
        if dry_run:
            ticks = await service.preview()
            shown = [part for tick in ticks for part in condition_tree(tick)]
            run.output.result([tick.to_dict() for tick in ticks], *shown)
            return ExitCode.OK
        run.output.note(f"the autonomous service of {run.home} runs; Ctrl-C ends it")
        await service.run(once=once)
    run.output.result({"status": "ended"}, "the autonomous service has ended")
    return ExitCode.OK
