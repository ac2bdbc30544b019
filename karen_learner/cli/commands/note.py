"""`note`: a note about a version."""

from __future__ import annotations

from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, argument, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def note(
    run: Context,
    tenant: Tenant,
    version: Annotated[str, argument("VERSION", "The version.")],
    words: Annotated[str | None, argument("TEXT", "The note. Without it, the note is removed.")] = None,
) -> int:
    """Write a note about a version. `versions` shows it."""
    async with run.learner(tenant) as learner:
        noted = await learner.note_version(tenant, version, words)
    shown = f"noted: {noted.note}" if noted.note is not None else "the note is removed"
    run.output.result(noted.to_dict(), f"{noted.version}: {shown}")
    return ExitCode.OK
