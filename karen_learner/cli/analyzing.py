"""`analyze`: what the live model says of texts."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from karen_learner.cli.arguments import Tenant
from karen_learner.cli.exits import ExitCode
from karen_learner.cli.invocation import Invocation
from karen_learner.cli.options import with_common_options
from karen_learner.cli.output import Output
from karen_learner.cli.render import analysis
from karen_learner.errors import InvalidInput

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import Analysis

STDIN = "-"

Numbered = tuple[int, str]


@with_common_options
def analyze(
    run: Invocation,
    tenant: Tenant,
    texts: Annotated[
        list[str],
        typer.Argument(metavar="TEXT...", help="Texts; or - for the lines of standard input."),
    ],
) -> int:
    """Tell intent, sentiment and entities of texts; nothing is stored.

    With --json an array with an object for each text. Blank lines of standard input are passed over.
    """
    run.run(lambda learner: analyze_all(learner, tenant, _source(texts), run.output), tenant=tenant)
    return ExitCode.OK


async def _source(texts: list[str]) -> AsyncIterator[list[Numbered]]:
    """Batches of texts, counted from 1; blank ones are counted and passed over."""
    if texts != [STDIN]:
        yield list(enumerate(texts, start=1))
        return
    from karen_learner.cli.lines import line_batches

    number = 0
    async for lines in line_batches(sys.stdin):
        counted = list(enumerate(lines, start=number + 1))
        number += len(lines)
        yield [(count, line) for count, line in counted if line.strip()]


async def analyze_all(
    learner: AutonomousLearner, tenant: str, source: AsyncIterator[list[Numbered]], output: Output
) -> None:
    """Analyse texts batch by batch and show each answer when it is there.

    Raises UnknownTenant, or InvalidInput with the number of the text that cannot be read.
    """
    if (await learner.status(tenant)).champion is None:
        output.note(f"{tenant!r} has no model yet: the rule-based fallback answers")
    with output.stream() as add:
        async for batch in source:
            for (_, text), found in zip(batch, await _answers(learner, tenant, batch), strict=True):
                add({"text": text, **found.to_dict()}, analysis(text, found))


async def _answers(learner: AutonomousLearner, tenant: str, batch: list[Numbered]) -> list[Analysis]:
    try:
        return await learner.analyze_many(tenant, [text for _, text in batch])
    except InvalidInput as error:
        raise await _located(learner, tenant, batch, error) from error


async def _located(
    learner: AutonomousLearner, tenant: str, batch: list[Numbered], error: InvalidInput
) -> InvalidInput:
    """A batch is refused as a whole: find the text that was to blame."""
    for number, text in batch:
        try:
            await learner.analyze(tenant, text)
        except InvalidInput as cause:
            return InvalidInput(f"text {number} cannot be analysed: {cause}")
    return error


def register(app: typer.Typer) -> None:
    app.command()(analyze)
