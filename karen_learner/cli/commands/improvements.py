"""`improvements`: tickets of changes and deployments, their measured effects, and the sum of the effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import Limit, Tenant, argument, flag, option, with_common_options
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.improvement import ImprovementTracker

Action = Literal["list", "show", "open", "mark", "measure", "dismiss"]


@with_common_options
async def improvements(
    run: Context,
    tenant: Tenant,
    action: Annotated[
        Action, argument("ACTION", "list (default), show, open, mark, measure or dismiss.", show_default=True)
    ] = "list",
    name: Annotated[str | None, argument("ID", "Ticket; for open the title of the change.")] = None,
    details: Annotated[str | None, option("WORDS", "The change that was made, or the reason.")] = None,
    metric: Annotated[str | None, option("NAME", "Metric of the ticket, or of the sum.")] = None,
    days: Annotated[int | None, option("N", "Days of measurement after the change.")] = None,
    cost: Annotated[float | None, option("AMOUNT", "Cost of the change.")] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Show the smallest visible effect. Open no ticket.")] = False,
    limit: Limit = 20,
) -> int:
    """List tickets with their measured effects and the sum of the effects, or change one ticket.

    Deployments open and measure their tickets by themselves while `karen-learner run` runs.
    """
    from karen_learner.cli.render_improvement import ticket_list
    from karen_learner.improvement import ImprovementTracker

    async with run.learner(tenant) as learner:
        tracker = ImprovementTracker(learner=learner, tenant_id=tenant)
        if action == "list":
            tickets = await tracker.tickets(limit=limit)
            impacts, summary = await tracker.impacts(), await tracker.calculate_cumulative_roi(metric)
            document = {
                "tickets": [one.to_dict() for one in tickets],
                "impacts": [one.to_dict() for one in impacts],
                "summary": summary.to_dict(),
            }
            run.output.result(document, *ticket_list(tickets, impacts, summary))
        elif action == "open":
            await _open(run, tracker, _required(name, "the title of the change"), metric, days, cost, dry_run)
        elif action == "measure":
            report = await tracker.measure_impact(_required(name, "the ID of a ticket"), days)
            run.output.result(report.to_dict(), report.conclusion)
        else:
            await _change(run, tracker, action, _required(name, "the ID of a ticket"), details)
    return ExitCode.OK


async def _open(
    run: Context,
    tracker: ImprovementTracker,
    title: str,
    metric: str | None,
    days: int | None,
    cost: float | None,
    dry_run: bool,
) -> None:
    from karen_learner.cli.render_improvement import ticket_story

    make = tracker.plan_ticket if dry_run else tracker.create_improvement_ticket
    made = await make(title, metric=metric, measurement_period=days, cost=cost)
    ticket = await tracker.ticket(made) if isinstance(made, str) else made
    run.output.result(ticket.to_dict(), *ticket_story(ticket, ()))


async def _change(
    run: Context, tracker: ImprovementTracker, action: Action, name: str, details: str | None
) -> None:
    from karen_learner.cli.render_improvement import ticket_story

    if action == "show":
        ticket, impacts = await tracker.ticket(name), await tracker.impacts(name)
    else:
        change = tracker.mark_implemented if action == "mark" else tracker.dismiss
        ticket, impacts = await change(name, _required(details, "--details")), ()
    document = {**ticket.to_dict(), "impacts": [one.to_dict() for one in impacts]}
    run.output.result(document, *ticket_story(ticket, impacts))


def _required(value: str | None, what: str) -> str:
    if value is None:
        raise typer.BadParameter(f"give {what}")
    return value
