"""`export`: examples or turns of a tenant as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from karen_learner.cli.context import Context
from karen_learner.cli.options import Kind, Tenant, with_common_options
from karen_learner.cli.render import text
from karen_learner.errors import ExitCode


@with_common_options
def export(
    run: Context,
    tenant: Tenant,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Target: .jsonl, or .spacy for examples. An existing file is replaced.",
            dir_okay=False,
            show_default=False,
        ),
    ],
    kind: Annotated[Kind, typer.Option(help="Curated examples, or turns.")] = Kind.examples,
) -> int:
    """Export the examples or turns of a tenant to a file."""
    count = run.run(lambda learner: learner.export(tenant, file, kind=kind.value), tenant=tenant)
    document = {"tenant_id": tenant, "path": str(file), "kind": kind.value, "count": count}
    run.output.result(document, text(f"wrote {count} {kind.value} to {file}"))
    return ExitCode.OK
