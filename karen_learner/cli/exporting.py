"""`export`: what was remembered, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from karen_learner.cli.arguments import Kind, Tenant
from karen_learner.cli.exits import ExitCode
from karen_learner.cli.invocation import Invocation
from karen_learner.cli.options import with_common_options
from karen_learner.cli.render import text


@with_common_options
def export(
    run: Invocation,
    tenant: Tenant,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Where to: .jsonl, or .spacy for examples. A file of that name is replaced.",
            dir_okay=False,
            show_default=False,
        ),
    ],
    kind: Annotated[Kind, typer.Option(help="Curated examples, or conversation turns.")] = Kind.examples,
) -> int:
    """Write a tenant's curated examples or its turns to a file."""
    count = run.run(lambda learner: learner.export(tenant, file, kind=kind.value), tenant=tenant)
    document = {"tenant_id": tenant, "path": str(file), "kind": kind.value, "count": count}
    run.output.result(document, text(f"wrote {count} {kind.value} to {file}"))
    return ExitCode.OK


def register(app: typer.Typer) -> None:
    app.command()(export)
