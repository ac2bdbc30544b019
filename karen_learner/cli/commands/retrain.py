"""`retrain`: retrains the tenants whose retraining is due. For cron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import flag, option, with_common_options
from karen_learner.cli.tables import FittingTable
from karen_learner.errors import ExitCode, InvalidInput, KarenLearnerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from karen_learner.autonomy.retrainer import AutomatedRetrainer, RetrainRecord
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records.triggers import TriggeredMode

TenantOption = Annotated[
    list[str] | None, option("TENANT", "Retrain this tenant only. Repeatable.", "--tenant")
]


@with_common_options
async def retrain(
    run: Context,
    tenant: TenantOption = None,
    force: Annotated[bool, flag("--force", "Retrain although it is not due.")] = False,
    mode: Annotated[
        Literal["auto", "incremental", "full"], typer.Option(help="Mode of the cycles.")
    ] = "auto",
    dry_run: Annotated[bool, flag("--dry-run", "Show which are due. Change nothing.")] = False,
    status: Annotated[bool, flag("--status", "Show the last run and the decisions.")] = False,
    queue: Annotated[bool, flag("--queue", "Let the running service retrain at its next tick.")] = False,
) -> int:
    """Retrain each tenant that has 50 new samples, or a last training 30 days ago and a new sample.

    The gates decide about each candidate, as in `learn`. Results are written to `logs/` in the home.

    Exit codes: 0 each due retraining ended, 4 none was due, 5 a cycle failed.
    """
    from karen_learner.autonomy.retrainer import AutomatedRetrainer

    if sum((dry_run, status, queue)) > 1:
        raise InvalidInput("--dry-run, --status and --queue exclude each other")
    async with run.learner(tenant[0] if tenant else None) as learner:
        names = tenant or await learner.tenants()
        for name in tenant or ():
            await learner.status(name)  # raises UnknownTenant
        if queue:
            return await _queue(run, learner, names, mode)
        made = [AutomatedRetrainer(learner, tenant_id=name, mode=mode) for name in names]
        if dry_run or status:
            return await _show(run, made, with_last=status)
        records = []
        for one in made:
            records += await _retrained(run, one, force=force)
    rows = [
        {"tenant": one.tenant_id, "status": one.status, "reason": one.message or one.reason}
        for one in records
    ]
    shown = FittingTable(rows, folded="reason") if rows else "there is no tenant"
    run.output.result([one.to_dict() for one in records], shown)
    return _exit_code(records, failed=len(made) - len(records))


async def _retrained(run: Context, one: AutomatedRetrainer, *, force: bool) -> list[RetrainRecord]:
    """The record of a tenant; none after an error, which ends no other tenant."""
    try:
        return [await one.retrain(force=force)]
    except KarenLearnerError as error:
        run.output.note(f"{one.tenant_id}: {error}", style="bold red")
        return []


def _exit_code(records: list[RetrainRecord], *, failed: int) -> ExitCode:
    if failed or any(one.status == "failed" for one in records):
        return ExitCode.FAILED
    return ExitCode.OK if any(one.status != "skipped" for one in records) else ExitCode.SKIPPED


async def _queue(run: Context, learner: AutonomousLearner, names: Sequence[str], mode: TriggeredMode) -> int:
    from karen_learner.autonomy.triggers.part import request_cycle
    from karen_learner.records import utc_now

    requests = {}
    for name in names:
        request = await request_cycle(learner.store, name, "a person requested it", mode=mode, clock=utc_now)
        requests[name] = request.to_dict()
    run.output.result(requests, f"the service retrains at its next tick: {', '.join(requests)}")
    return ExitCode.OK


async def _show(run: Context, made: list[AutomatedRetrainer], *, with_last: bool) -> int:
    from karen_learner.autonomy.log_files import read_status

    states = [await one.status() for one in made]
    rows = [
        {"tenant": one.tenant_id, "due": one.should_retrain.due, "reason": one.should_retrain.reason}
        for one in states
    ]
    last = read_status(run.home) if with_last else {}
    document = {
        "last_run": last.get("last_run"),
        "last_status": last.get("last_status"),
        "tenants": [one.to_dict() for one in states],
    }
    shown = [FittingTable(rows, folded="reason")]
    run.output.result(document if with_last else document["tenants"], *shown)
    return ExitCode.OK if any(one.should_retrain for one in states) else ExitCode.SKIPPED
