"""`package`: a model as an installable spaCy package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, argument, option, with_common_options
from karen_learner.errors import ExitCode


@with_common_options
async def package(
    run: Context,
    tenant: Tenant,
    version: Annotated[str | None, argument("VERSION", "Version to package. Default: the live one.")] = None,
    output: Annotated[
        Path, option("DIR", "Folder of the wheel. Default: this folder.", file_okay=False, show_default=True)
    ] = Path(),
    name: Annotated[str | None, option("NAME", "Name after the language. Default: made from TENANT.")] = None,
) -> int:
    """Write a version as a wheel: `pip install` installs it, and `spacy.load` loads it.

    Needs no network. An existing wheel of the same name and release is replaced.
    """
    async with run.learner(tenant) as learner:
        made = await learner.package(tenant, output, version=version, name=name)
    shown = [f"wrote {made.model_version} to {made.path}"]
    if made.own_components:
        components = ", ".join(made.own_components)
        shown.append(f"the program that loads it must register your own components: {components}")
    shown += ["", f"  pip install {made.path}", f'  spacy.load("{made.name}")']
    run.output.result(made.to_dict(), *shown)
    return ExitCode.OK
