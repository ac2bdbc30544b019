"""`report`: reports of a period for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import Limit, argument, flag, option, with_common_options
from karen_learner.errors import ExitCode

ACTIONS = ("make", "list", "show", "archive", "dashboard", "schema")


@with_common_options
async def report(
    run: Context,
    action: Annotated[str, argument("[ACTION]", "make (default), list, show, archive, dashboard or schema.")],
    tenant: Annotated[str | None, argument("TENANT", "Id of the tenant.")] = None,
    period: Annotated[
        Literal["weekly", "monthly", "quarterly"],
        option("PERIOD", "Period of the report.", show_default=True),
    ] = "weekly",
    kind: Annotated[
        Literal["executive", "technical"] | None,
        option("KIND", "executive: one page. technical: all metrics."),
    ] = None,
    format: Annotated[str | None, option("NAMES", "Formats with commas: html, pdf, json, csv.")] = None,
    output: Annotated[Path | None, option("PATH", "Folder, or file of one format, for copies.")] = None,
    id: Annotated[str | None, option("ID", "Report to show; its last characters suffice.", "--id")] = None,
    days: Annotated[float | None, option("N", "Age at which `archive` archives a report.")] = None,
    fresh: Annotated[bool, flag("--fresh", "Analyse again, although no data is new.")] = False,
    limit: Limit = 20,
) -> int:
    """Make a report of the last week, month or quarter of a tenant; list, show or archive reports.

    `karen-learner report TENANT` makes one. Exit code 4 of archive: no report is old enough.
    """
    if action not in ACTIONS:
        if tenant is not None:
            raise typer.BadParameter(f"unknown action {action!r}: one of {', '.join(ACTIONS)}")
        action, tenant = "make", action
    if action == "schema":
        return _schema(run)
    if action == "archive":
        return await _archive(run, days)
    if tenant is None:
        raise typer.BadParameter(f"report {action} needs a TENANT")
    formats: Any = format.split(",") if format is not None else None
    async with run.learner(tenant) as learner:
        await learner.status(tenant)  # raises UnknownTenant
        if action == "list":
            return await _list(run, learner, tenant, limit)
        if action == "dashboard":
            page = await learner.reports.create_dashboard(tenant_id=tenant)
            run.output.result({"path": str(page)}, f"the dashboard is {page}")
            return ExitCode.OK
        if action == "show":
            if id is None:
                raise typer.BadParameter("report show needs --id, as `report list` shows it")
            made = await learner.reports.find(tenant, id)
        else:
            made = await learner.report(tenant, period=period, kind=kind, formats=formats, fresh=fresh)
        return await _show(run, learner, made, formats, output)


async def _show(run: Context, learner: Any, made: Any, formats: list[str] | None, output: Path | None) -> int:
    """The headline and the files of a report, or of its copies."""
    document = await learner.reports.document(made.tenant_id, made.report_id)
    copies = await _copies(learner, made, formats, output) if output is not None else []
    shown = [document.headline, *(f"note: {note}" for note in made.notes)]
    shown += [str(path) for path in copies] or [str(made.path(one)) for one in made.formats]
    run.output.result(
        {**made.to_dict(), "headline": document.headline, "copies": [str(one) for one in copies]}, *shown
    )
    return ExitCode.OK


def _schema(run: Context) -> int:
    from karen_learner.reports.rendering import schema

    run.output.json = True
    run.output.result(schema())
    return ExitCode.OK


async def _archive(run: Context, days: float | None) -> int:
    async with run.learner() as learner:
        kept = learner.settings.reports.retention_days if days is None else days
        done = await learner.reports.archive_old_reports(kept)
    run.output.result(
        done.to_dict(),
        f"{len(done.archived)} reports are archived; {done.freed_bytes:,} bytes are free again",
    )
    return ExitCode.OK if done.archived or done.removed_damaged else ExitCode.SKIPPED


async def _list(run: Context, learner: Any, tenant: str, limit: int) -> int:
    from karen_learner.cli.tables import FittingTable

    found = await learner.reports.reports(tenant, limit=limit)
    rows = [
        {
            "made": f"{one.created_at:%Y-%m-%d %H:%M}",
            "period": one.period,
            "kind": one.kind,
            "from": f"{one.analysis_period.start:%Y-%m-%d}",
            "until": f"{one.analysis_period.end:%Y-%m-%d}",
            "files": "archived" if one.archived else ", ".join(one.formats),
            "id": one.report_id,
        }
        for one in found.reports
    ]
    shown: list[Any] = [FittingTable(rows, optional=("made", "files"))] if rows else ["no report"]
    shown += [f"damaged, set aside: {name}" for name in found.damaged]
    run.output.result(found.to_dict(), *shown)
    return ExitCode.OK


async def _copies(learner: Any, made: Any, formats: list[str] | None, output: Path) -> list[Path]:
    """Write copies: to a folder, or of one format to a file. Raises InvalidInput."""
    from karen_learner.disk import make_folder
    from karen_learner.errors import InvalidInput
    from karen_learner.models.files import replace_file, tenant_folder

    wanted = formats or list(made.formats)
    is_file = len(wanted) == 1 and output.suffix == f".{wanted[0]}"
    name = f"{tenant_folder(made.tenant_id)}-{made.period}-{made.analysis_period.end:%Y-%m-%d}"
    written = []
    for one in wanted:
        target = output if is_file else output / f"{name}.{one}"
        content = await learner.reports.content(made.tenant_id, made.report_id, cast(Any, one))
        try:
            make_folder(target.parent)
            replace_file(target, content)
        except OSError as error:
            raise InvalidInput(f"{target} cannot be written: {error.strerror or error}") from error
        written.append(target)
    return written
