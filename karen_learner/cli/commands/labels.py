"""`labels`: the labels of a tenant are listed, renamed, merged and retired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from karen_learner.cli.commands.rollback import confirmed
from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, Yes, argument, flag, option, with_common_options
from karen_learner.errors import ExitCode

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records.labels import LabelReport

Action = Literal["list", "rename", "merge", "retire"]
TaskName = Literal["intent", "sentiment", "entities"]
ARGUMENTS = {"list": 0, "rename": 2, "merge": 2, "retire": 1}
QUESTIONS = {"merge": "merge {examples} examples of {label!r} into {successor!r}?",
             "retire": "remove {label!r} from {examples} examples?"}  # fmt: skip
"""Actions that cannot be undone ask for confirmation."""


@with_common_options
async def labels(
    run: Context,
    action: Annotated[Action, argument("ACTION", "list, rename, merge or retire.")],
    tenant: Tenant,
    label: Annotated[str | None, argument("LABEL", "The label to change.")] = None,
    successor: Annotated[str | None, argument("NEW", "rename: its new name; merge: the other label.")] = None,
    task: Annotated[TaskName | None, option("TASK", "Task of the label, if several tasks have it.")] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Show the effect. Change nothing.")] = False,
    yes: Yes = False,
) -> int:
    """List, rename, merge or retire labels, in all examples and feedback.

    Later feedback and gold with the former name get the new one. Merge and retire ask for confirmation.
    Exit code 4: declined.
    """
    given = [one for one in (label, successor) if one is not None]
    if len(given) != ARGUMENTS[action]:
        raise typer.BadParameter(f"{action} needs {ARGUMENTS[action]} names of labels, not {len(given)}")
    async with run.learner(tenant) as learner:
        if action == "list":
            return await _list(run, learner, tenant)
        report = await _change(learner, tenant, action, given, task, dry_run=True)
        question = QUESTIONS.get(action, "").format(**report.to_dict())
        if not dry_run and (yes or not question or confirmed(run, question)):
            report = await _change(learner, tenant, action, given, task, dry_run=False)
    _show(run, tenant, report)
    return ExitCode.OK if report.done or dry_run else ExitCode.SKIPPED


async def _list(run: Context, learner: AutonomousLearner, tenant: str) -> int:
    from karen_learner.cli.tables import FittingTable

    rows = await learner.labels(tenant)
    shown = [
        {
            "task": row.task,
            "label": row.label,
            "examples": row.examples,
            "live model": "yes" if row.in_model else "no",
            "formerly": ", ".join(row.formerly) or None,
        }
        for row in rows
    ]
    document = {"tenant_id": tenant, "labels": [row.to_dict() for row in rows]}
    run.output.result(document, FittingTable(shown, folded="formerly") if shown else "no labels")
    return ExitCode.OK


async def _change(
    learner: AutonomousLearner,
    tenant: str,
    action: Action,
    given: list[str],
    task: TaskName | None,
    *,
    dry_run: bool,
) -> LabelReport:
    if action == "rename":
        return await learner.rename_label(tenant, given[0], given[1], task=task, dry_run=dry_run)
    if action == "merge":
        return await learner.merge_labels(tenant, given[0], given[1], task=task, dry_run=dry_run)
    return await learner.retire_label(tenant, given[0], task=task, dry_run=dry_run)


def _show(run: Context, tenant: str, report: LabelReport) -> None:
    from karen_learner.cli.tables import command_line

    becomes = f"becomes {report.successor!r}" if report.successor is not None else "is retired"
    lines = [
        f"{report.task} {report.label!r} {becomes}{'' if report.done else ': nothing is changed'}",
        f"{report.examples} examples ({report.gold} gold), {report.contributions} labels of people and files",
    ]
    if report.set_aside:
        lines.append(f"{report.set_aside} examples without another label are quarantined")
    if report.done:
        lines.append(f"Next: {command_line(run.home, 'learn', tenant, '--force')}")
    run.output.result({"tenant_id": tenant, **report.to_dict()}, *lines)
