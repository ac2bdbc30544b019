"""`erase`: the data of one user are erased."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from karen_learner.cli.commands.rollback import confirmed
from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, Yes, argument, flag, with_common_options
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.records.erasure import Erasure


@with_common_options
async def erase(
    run: Context,
    tenant: Tenant,
    user: Annotated[str, argument("USER", "Id of the user, as the turns have it.")],
    dry_run: Annotated[bool, flag("--dry-run", "Show the number of rows. Change nothing.")] = False,
    yes: Yes = False,
) -> int:
    """Erase the texts, the feedback and the id of one user of a tenant. It cannot be undone.

    Turns keep their detected labels and ratings without the user. Earlier archives of `backup` still have
    the texts: delete them. Asks for confirmation. Exit code 4: declined, or nothing is stored of the user.
    """
    async with run.learner(tenant) as learner:
        found = await learner.erase_user(tenant, user, dry_run=True)
        question = f"erase {_counted(found)} of the user {user!r} of {tenant!r}?"
        if found.rows.total and not dry_run and (yes or confirmed(run, question)):
            found = await learner.erase_user(tenant, user)
    run.output.result({"tenant_id": tenant, **found.to_dict()}, *_shown(run, tenant, found))
    return ExitCode.OK if found.rows.total and (found.done or dry_run) else ExitCode.SKIPPED


def _counted(found: Erasure) -> str:
    rows = found.rows
    return (
        f"{rows.turns} turns, {rows.labels} labels, {rows.log_entries} log entries, "
        f"{rows.events} stream events and {rows.spooled} spooled entries"
    )


def _shown(run: Context, tenant: str, found: Erasure) -> list[str]:
    from karen_learner.cli.tables import command_line

    if not found.done:
        return [f"stored: {_counted(found)}", "nothing changed"]
    shown = [f"erased: {_counted(found)}"]
    if found.corpora_in_use:
        shown.append("a cycle runs and keeps its training texts: erase the user again when it has ended")
    if found.rows.labels:
        train = command_line(run.home, "learn", tenant, "--mode", "full", "--force")
        shown.append(f"to train a model without the texts: {train}")
    return shown
