"""`export`: examples or turns of a tenant as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import TargetFormat, Tenant, argument, option, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def export(
    run: Context,
    tenant: Tenant,
    file: Annotated[
        Path,
        argument(
            "FILE", "Target, such as a .jsonl or .spacy file. An existing file is replaced.", dir_okay=False
        ),
    ],
    kind: Annotated[
        Literal["examples", "turns"], typer.Option(help="Curated examples, or turns.")
    ] = "examples",
    to: TargetFormat = None,
    user: Annotated[str | None, option("ID", "Only the turns of this user, with --kind turns.")] = None,
) -> int:
    """Export the examples or turns of a tenant to a file."""
    async with run.learner(tenant) as learner:
        count = await learner.export(tenant, file, kind=kind, to=to, user_id=user)
    document = {"tenant_id": tenant, "path": str(file), "kind": kind, "count": count}
    run.output.result(document, f"wrote {count} {kind} to {file}")
    return ExitCode.OK
