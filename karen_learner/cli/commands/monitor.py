"""`monitor`: the readings of the tenants, live."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import flag, option, with_common_options
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from karen_learner.learner import AutonomousLearner
    from karen_learner.monitoring.readings import Readings
    from karen_learner.records.readings import Reading


@with_common_options
async def monitor(
    run: Context,
    tenant: Annotated[
        list[str] | None, option("TENANT", "Show this tenant only. Repeatable.", "--tenant")
    ] = None,
    interval: Annotated[float, typer.Option(help="Seconds between two updates.", min=0.5, max=3600.0)] = 5.0,
    once: Annotated[bool, flag("--once", "Show the readings once, and end.")] = False,
) -> int:
    """Show the readings of each tenant with intervals, alarms and expected false alarms. Ctrl-C ends it.

    With --json, or in a pipe, the readings are shown once. Exit codes: 0 no alarm, 7 a reading has an alarm.
    """
    from rich.live import Live

    from karen_learner.cli.render_autonomy import readings_table
    from karen_learner.monitoring.readings import Readings

    async with run.learner(tenant[0] if tenant else None) as learner:
        for name in tenant or ():
            await learner.status(name)  # raises UnknownTenant
        made = Readings(learner.store, learner.layout, learner.settings)
        found = await _read(learner, made, tenant)
        if once or not run.output.is_live:
            run.output.result(
                {name: {key: one.to_dict() for key, one in all_.items()} for name, all_ in found.items()},
                readings_table(found),
            )
        else:
            with Live(readings_table(found), console=run.output.console, auto_refresh=False) as live:
                while True:
                    await asyncio.sleep(interval)
                    found = await _read(learner, made, tenant)
                    live.update(readings_table(found), refresh=True)
    has_alarm = any(one.alarm for all_ in found.values() for one in all_.values())
    return ExitCode.UNHEALTHY if has_alarm else ExitCode.OK


async def _read(
    learner: AutonomousLearner, made: Readings, tenants: list[str] | None
) -> dict[str, Mapping[str, Reading]]:
    from karen_learner.records import utc_now

    names = tenants or await learner.tenants()
    return {name: await made.refresh(name, utc_now()) for name in names}
