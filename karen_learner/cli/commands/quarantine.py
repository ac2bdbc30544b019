"""`quarantine`: examples that are not learned until a person decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from karen_learner.cli.commands.rollback import confirmed
from karen_learner.cli.context import Context
from karen_learner.cli.options import Limit, Tenant, Yes, argument, flag, option, with_common_options
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner

Action = Literal["list", "release", "discard"]


@with_common_options
async def quarantine(
    run: Context,
    tenant: Tenant,
    action: Annotated[
        Action, argument("ACTION", "list (default), release or discard.", show_default=True)
    ] = "list",
    ids: Annotated[list[str] | None, argument("ID", "Examples; the first characters suffice.")] = None,
    reason: Annotated[str | None, option("REASON", "Only the examples of this reason.")] = None,
    limit: Limit = 100,
    dry_run: Annotated[bool, flag("--dry-run", "Show the number of examples. Change nothing.")] = False,
    yes: Yes = False,
) -> int:
    """List the examples that are quarantined, in conflict, or wait after a rollback, with their reasons.

    `release` makes the given ones pending: the next cycle learns them. `discard` excludes them for good.
    Both take ids or --reason. Exit code 4: declined, or no example can be changed.
    """
    from karen_learner.cli.render_health import quarantined
    from karen_learner.curation.quarantine import REASONS

    if reason is not None and reason not in REASONS:
        raise typer.BadParameter(f"--reason is one of {', '.join(map(repr, REASONS))}, not {reason!r}")
    if action == "list":
        async with run.learner(tenant) as learner:
            found = await learner.quarantine(tenant, reason=reason, limit=limit)
        run.output.result(found.to_dict(), *quarantined(found, run.home))
        return ExitCode.OK
    if bool(ids) == (reason is not None):
        raise typer.BadParameter(f"give ids or --reason, so that it is clear which examples to {action}")
    async with run.learner(tenant) as learner:
        names = ids or await _ids(learner, tenant, reason)
        question = f"{action} {len(names)} examples of {tenant!r}?"
        done = bool(names) and not dry_run and (yes or action == "release" or confirmed(run, question))
        count = len(names)
        if done:
            count = await (learner.release if action == "release" else learner.discard)(tenant, names)
    document = {"tenant_id": tenant, "action": action, "done": done, "examples": count}
    state = {"release": "pending", "discard": "discarded"}[action]
    run.output.result(document, f"{count} examples {f'are {state}' if done else 'would change'}")
    return ExitCode.OK if count and (done or dry_run) else ExitCode.SKIPPED


async def _ids(learner: AutonomousLearner, tenant: str, reason: str | None) -> list[str]:
    from karen_learner.curation.quarantine import ids_of

    return [] if reason is None else await ids_of(learner.store, tenant, reason)
