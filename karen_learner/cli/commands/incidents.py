"""`incidents`: problems with the stories of their remedies, and decisions about them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import Limit, argument, option, with_common_options
from karen_learner.errors import ExitCode

Action = Literal["list", "show", "acknowledge", "silence", "pause", "resume"]
DEFAULT_HOURS = 24.0


@with_common_options
async def incidents(
    run: Context,
    action: Annotated[
        Action,
        argument("ACTION", "list (default), show, acknowledge, silence, pause or resume.", show_default=True),
    ] = "list",
    name: Annotated[str | None, argument("ID", "Incident; for pause and resume a remedy.")] = None,
    tenant: Annotated[str | None, option("TENANT", "Only this tenant.")] = None,
    reason: Annotated[str | None, option("WORDS", "Reason of a decision.")] = None,
    hours: Annotated[float | None, option("N", "Hours of silence (24) or pause.")] = None,
    limit: Limit = 20,
) -> int:
    """List incidents, show the story of one, or decide about it. Decisions need a --reason.

    Exit codes of list: 0 no incident waits for actions, 7 one does.
    """
    from karen_learner.autonomy.troubleshooter.operator_actions import OperatorActions
    from karen_learner.cli.render_autonomy import incident_story, incident_table
    from karen_learner.records import utc_now

    if action != "list" and name is None:
        raise typer.BadParameter(f"{action} needs the ID of an incident, or the name of a remedy")
    async with run.learner(tenant) as learner:
        actions, now = OperatorActions(learner.store), utc_now()
        if action == "list":
            found = await learner.store.newest_incidents(tenant, limit=limit)
            run.output.result([one.to_dict() for one in found], *incident_table(found))
            return ExitCode.UNHEALTHY if any(one.state == "escalated" for one in found) else ExitCode.OK
        if action in ("pause", "resume"):
            return await _decide_remedy(run, actions, action, name or "", tenant, reason, hours)
        if action == "show":
            incident = await actions.find(name or "")
        elif action == "acknowledge":
            incident = await actions.acknowledge(name or "", _required(reason), now=now)
        else:
            wanted = DEFAULT_HOURS if hours is None else hours
            incident = await actions.silence(name or "", _required(reason), hours=wanted, now=now)
    run.output.result(incident.to_dict(), *incident_story(incident))
    return ExitCode.OK


async def _decide_remedy(
    run: Context,
    actions: Any,
    action: str,
    remedy: str,
    tenant: str | None,
    reason: str | None,
    hours: float | None,
) -> int:
    from karen_learner.records import utc_now

    if action == "resume":
        done = await actions.resume(remedy, tenant_id=tenant)
        run.output.result(
            {"remedy": remedy, "resumed": done}, f"{remedy} {'goes on' if done else 'was not paused'}"
        )
        return ExitCode.OK if done else ExitCode.SKIPPED
    paused = await actions.pause(remedy, _required(reason), now=utc_now(), tenant_id=tenant, hours=hours)
    run.output.result(paused.to_dict(), f"{remedy} is paused: {paused.reason}")
    return ExitCode.OK


def _required(reason: str | None) -> str:
    if reason is None:
        raise typer.BadParameter("give a --reason")
    return reason
