"""`evidence`: the turns, cycles or log entries behind a finding."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import Limit, Tenant, argument, option, with_common_options
from karen_learner.errors import ExitCode


def _moment(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise typer.BadParameter(f"write a time as 2026-11-30T12:00:00+00:00, not {value!r:.60}") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


@with_common_options
async def evidence(
    run: Context,
    tenant: Tenant,
    component: Annotated[str, argument("COMPONENT", "Component, as `performance` names it.")],
    metric: Annotated[str | None, argument("METRIC", "Metric of the component.")] = None,
    *,
    start: Annotated[str, option("TIME", "First moment of the period.")],
    end: Annotated[str, option("TIME", "First moment after the period.")],
    limit: Limit = 20,
) -> int:
    """List the ids behind a metric: turns, cycles, tasks or log entries with the worst result."""
    from karen_learner.cli.render_improvement import evidence_lines
    from karen_learner.improvement import AIAnalysisEngine, AnalysisConfig
    from karen_learner.improvement.samples import Span

    first, last = _moment(start), _moment(end)
    if first >= last:
        raise typer.BadParameter("--end must be later than --start")
    async with run.learner(tenant) as learner:
        engine = AIAnalysisEngine(AnalysisConfig(tenant_id=tenant), learner=learner)
        found = await engine.evidence(component, metric, Span(first, first, last), limit=limit)
    run.output.result(found.to_dict(), *evidence_lines(found))
    return ExitCode.OK
