"""`performance`: an analysis of the last days by component, with trends."""

from __future__ import annotations

from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, option, with_common_options
from karen_learner.errors import ExitCode

Days = Annotated[float, option("N", "Length of the period in days.", min=0.01, max=3650.0, show_default=True)]


@with_common_options
async def performance(run: Context, tenant: Tenant, days: Days = 7.0) -> int:
    """Analyse the last days by component: metrics, health, and trends against the days before.

    Exit codes: 0 healthy, 7 a component is critical.
    """
    from karen_learner.cli.render_improvement import analysis
    from karen_learner.improvement import AIAnalysisEngine, AnalysisConfig

    async with run.learner(tenant) as learner:
        engine = AIAnalysisEngine(AnalysisConfig(tenant_id=tenant), learner=learner)
        results = await engine.analyze_weekly_performance(days)
    run.output.result(results.to_dict(), *analysis(results))
    return ExitCode.UNHEALTHY if results.overall_health == "critical" else ExitCode.OK
