"""`show`: the decision of one cycle."""

from __future__ import annotations

from typing import Annotated

from karen_learner.cli.commands.learn import exit_code, texts_of
from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, argument, with_common_options


@with_common_options
async def show(
    run: Context,
    tenant: Tenant,
    cycle: Annotated[str | None, argument("CYCLE", "Id of a cycle. Default: the last one that ran.")] = None,
) -> int:
    """Show the decision of a cycle: gates, scores, changed answers, and the texts that would change it.

    Exit codes: those of `learn`.
    """
    from karen_learner.cli.render import cycle_result

    async with run.learner(tenant) as learner:
        result = await learner.cycle(tenant, cycle)
        texts = await texts_of(learner, result)
        champion = (await learner.status(tenant)).serving
    live = champion.version if champion is not None else None
    shown = cycle_result(result, home=run.home, texts=texts, live=live)
    run.output.result(result.to_dict() | {"example_texts": texts}, *shown)
    return exit_code(result)
