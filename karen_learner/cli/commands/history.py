"""`history`: cycles and rollbacks of a tenant."""

from __future__ import annotations

import json
from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import Limit, Tenant, flag, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def history(
    run: Context,
    tenant: Tenant,
    limit: Limit = 20,
    jsonl: Annotated[bool, flag("--jsonl", "Print one JSON document in each line, oldest first.")] = False,
) -> int:
    """List the learning cycles and rollbacks of a tenant, newest first."""
    from karen_learner.cli import render

    async with run.learner(tenant) as learner:
        results = await learner.history(tenant, limit=limit)
    if jsonl:
        for result in reversed(results):
            print(json.dumps(result.to_dict(), allow_nan=False))
        return ExitCode.OK
    run.output.result([result.to_dict() for result in results], render.history(results))
    return ExitCode.OK
