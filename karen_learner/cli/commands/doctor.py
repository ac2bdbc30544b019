"""`doctor`: checks of a home, its models, its permissions and the installation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import flag, with_common_options
from karen_learner.cli.output import text
from karen_learner.errors import ExitCode, InvalidInput, KarenLearnerError

if TYPE_CHECKING:
    from rich.text import Text

    from karen_learner.records.health import Finding

STYLES = {"ok": "green", "warning": "yellow", "failing": "bold red", "fixed": "green"}


@with_common_options
async def doctor(
    run: Context,
    fix: Annotated[bool, flag("--fix", "Mend permissions, missing backups and damaged versions.")] = False,
) -> int:
    """Check settings, home, database, models and libraries. Changes nothing without --fix.

    Exit codes: 0 nothing fails, 7 something does.
    """
    from karen_learner.doctor import is_healthy, unopened
    from karen_learner.models.files import HomeLayout

    layout = HomeLayout(run.home, run.settings().paths)
    try:
        async with run.learner() as learner:
            findings = await learner.doctor(fix=fix)
    except KarenLearnerError as error:
        if isinstance(error, InvalidInput) and not layout.home.is_dir():
            raise
        findings = unopened(error, layout, home_exists=layout.home.is_dir())
    healthy = is_healthy(findings)
    document = {"healthy": healthy, "findings": [one.to_dict() for one in findings]}
    run.output.result(document, *map(_line, findings), *_summary(findings, fix=fix))
    return ExitCode.OK if healthy else ExitCode.UNHEALTHY


def _line(finding: Finding) -> Text:
    state = "fixed" if finding.fixed else finding.severity
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return text(f"{state}: {finding.area}: {finding.message}{remedy}", STYLES[state] if state != "ok" else "")


def _summary(findings: tuple[Finding, ...], *, fix: bool) -> list[str]:
    fixable = sum(one.fixable and not one.fixed for one in findings)
    return ["", f"--fix mends {fixable} of these"] if fixable and not fix else []
