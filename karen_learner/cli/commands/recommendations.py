"""`recommendations`: proposed improvements with their evidence, and the decisions of people about them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, argument, option, with_common_options
from karen_learner.errors import ExitCode

Action = Literal["make", "list", "accept", "implement", "dismiss", "measure"]
STATUS = {"accept": "accepted", "implement": "implemented", "dismiss": "dismissed"}


@with_common_options
async def recommendations(
    run: Context,
    tenant: Tenant,
    action: Annotated[
        Action,
        argument("ACTION", "make (default), list, accept, implement, dismiss or measure.", show_default=True),
    ] = "make",
    name: Annotated[str | None, argument("ID", "A recommendation.")] = None,
    days: Annotated[
        float, option("N", "make: analyse this many days.", min=0.01, max=3650.0, show_default=True)
    ] = 7.0,
    details: Annotated[str | None, option("WORDS", "Description of a decision.")] = None,
) -> int:
    """Recommend improvements from an analysis, list them, decide about one, or measure one.

    `measure` compares the metrics before and after the implementation.
    """
    from karen_learner.cli.render_improvement import impact_lines
    from karen_learner.cli.render_improvement import recommendations as shown
    from karen_learner.improvement import AIAnalysisEngine, AnalysisConfig

    if action not in ("make", "list") and name is None:
        raise typer.BadParameter(f"{action} needs the ID of a recommendation")
    async with run.learner(tenant) as learner:
        engine = AIAnalysisEngine(AnalysisConfig(tenant_id=tenant), learner=learner)
        if action == "measure":
            measured = await engine.track_implementation_impact(name or "")
            run.output.result(measured.to_dict(), *impact_lines(measured))
            return ExitCode.OK
        if action == "make":
            found = await engine.generate_recommendations(await engine.analyze_weekly_performance(days))
        elif action == "list":
            found = await engine.recommendations()
        else:
            status = STATUS[action]
            found = [await engine.mark_recommendation(name or "", status, details=details)]  # type: ignore[arg-type]
    run.output.result([one.to_dict() for one in found], *shown(found))
    return ExitCode.OK
