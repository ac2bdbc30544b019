"""`erase`: the data of one user are erased, or entries of the production log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from karen_learner.cli.commands.rollback import confirmed
from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, Yes, argument, flag, option, with_common_options
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.records.erasure import Erasure


@with_common_options
async def erase(
    run: Context,
    tenant: Tenant,
    user: Annotated[str | None, argument("USER", "Id of the user, as the turns have it.")] = None,
    session: Annotated[str | None, option("ID", "Erase the log entries of this session instead.")] = None,
    subject: Annotated[str | None, option("ID", "Erase the log entries about this subject instead.")] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Show the number of rows. Change nothing.")] = False,
    yes: Yes = False,
) -> int:
    """Erase the texts, the feedback and the id of one user of a tenant, or entries of its production log.

    It cannot be undone.

    Turns keep their detected labels and ratings without the user. Earlier archives of `backup` still have
    the texts: delete them. Asks for confirmation. Exit code 4: declined, or nothing is stored of the user.
    """
    if (user is None) == (session is None and subject is None) or (dry_run and user is None):
        raise typer.BadParameter("give a USER, or --session or --subject, which have no dry run")
    if user is None:
        return await _erase_log(run, tenant, session, subject, yes=yes)
    async with run.learner(tenant) as learner:
        found = await learner.erase_user(tenant, user, dry_run=True)
        question = f"erase {_counted(found)} of the user {user!r} of {tenant!r}?"
        # also without rows: an earlier erasure may have left training texts to a cycle
        if not dry_run and (yes or confirmed(run, question)):
            found = await learner.erase_user(tenant, user)
    run.output.result({"tenant_id": tenant, **found.to_dict()}, *_shown(run, tenant, found))
    is_erased = (found.rows.total or found.corpora) and (found.done or dry_run)
    return ExitCode.OK if is_erased else ExitCode.SKIPPED


async def _erase_log(
    run: Context, tenant: str, session: str | None, subject: str | None, *, yes: bool
) -> int:
    if not (yes or confirmed(run, f"erase the contents of these log entries of {tenant!r}?")):
        return ExitCode.SKIPPED
    async with run.learner(tenant) as learner:
        count = await learner.erase_decisions(tenant, session_id=session, subject=subject)
    run.output.result({"tenant_id": tenant, "log_entries": count}, f"erased: {count} log entries")
    return ExitCode.OK if count else ExitCode.SKIPPED


def _counted(found: Erasure) -> str:
    rows = found.rows
    return (
        f"{rows.turns} turns, {rows.labels} labels, {rows.log_entries} log entries, "
        f"{rows.events} stream events, {rows.spooled} spooled entries"
    )


def _shown(run: Context, tenant: str, found: Erasure) -> list[str]:
    from karen_learner.cli.tables import command_line

    if not found.done:
        return [f"stored: {_counted(found)}", "nothing changed"]
    shown = [f"erased: {_counted(found)} and {found.corpora} files of training texts"]
    if found.corpora_in_use:
        shown.append("a cycle runs and keeps its training texts: erase the user again when it has ended")
    if found.rows.labels:
        train = command_line(run.home, "learn", tenant, "--mode", "full", "--force")
        shown.append(f"to train a model without the texts: {train}")
    return shown
