"""`analyze`: analyses of texts by the live model."""

from __future__ import annotations

import asyncio
import codecs
import os
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, TextIO

from asyncio_extras import call_in_executor

from karen_learner.cli.context import Context
from karen_learner.cli.options import Tenant, argument, option, with_common_options
from karen_learner.errors import ExitCode, InvalidInput

if TYPE_CHECKING:
    from karen_learner.learner import AutonomousLearner
    from karen_learner.records import Analysis

STDIN = "-"
CHUNK_BYTES = 1 << 16

NumberedText = tuple[int, str]


@with_common_options
async def analyze(
    run: Context,
    tenant: Tenant,
    texts: Annotated[list[str], argument("TEXT", "Texts; - reads lines from standard input.")],
    user: Annotated[str | None, option("ID", "User of the texts: a holdback keeps some.")] = None,
) -> int:
    """Show intent, sentiment and entities of texts. Stores nothing.

    --json prints an array with one object per text. Blank input lines are skipped.
    """
    from karen_learner.cli.render import analysis

    async with run.learner(tenant) as learner:
        told = False
        with run.output.stream() as add:
            async for batch in _source(texts):
                for (_, text), found in zip(
                    batch, await _analyses(learner, tenant, batch, user), strict=True
                ):
                    if found.degraded and not told:
                        told = True
                        run.output.note(await _why_degraded(learner, tenant), style="yellow")
                    add({"text": text, **found.to_dict()}, analysis(text, found))
    return ExitCode.OK


async def _why_degraded(learner: AutonomousLearner, tenant: str) -> str:
    """The reason for which the fallback answered."""
    found = await learner.status(tenant)
    if found.champion is None:
        return f"{tenant!r} has no model yet: the fallback answers"
    reason = found.health.reason or "the model failed on the text"
    version = found.champion.version
    return f"the fallback answers, not {version}: {reason} (see `karen-learner status`)"


async def _analyses(
    learner: AutonomousLearner, tenant: str, batch: list[NumberedText], user: str | None
) -> list[Analysis]:
    """Analyses of a batch. Raises InvalidInput with the number of an invalid text."""
    try:
        return await learner.analyze_many(tenant, [text for _, text in batch], user_id=user)
    except InvalidInput:
        for number, text in batch:
            try:
                await learner.analyze(tenant, text)
            except InvalidInput as cause:
                raise InvalidInput(f"text {number} cannot be analysed: {cause}") from cause
        raise


async def _source(texts: list[str]) -> AsyncIterator[list[NumberedText]]:
    """Batches of texts, numbered from 1. Blank texts of standard input are counted and skipped."""
    if texts != [STDIN]:
        yield list(enumerate(texts, start=1))
        return
    number = 0
    async for lines in _line_batches(sys.stdin):
        numbered = list(enumerate(lines, start=number + 1))
        number += len(lines)
        yield [(count, line) for count, line in numbered if line.strip()]


async def _line_batches(stream: TextIO) -> AsyncIterator[list[str]]:
    """Lines without line ends, in batches as they arrive. Invalid UTF-8 is replaced."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    while chunk := await _chunk(stream):
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        if lines:
            yield [line.removesuffix("\r") for line in lines]
    if rest := rest + decoder.decode(b"", final=True):
        yield [rest]


async def _chunk(stream: TextIO) -> bytes:
    """The next bytes. The loop waits for a terminal or pipe: Ctrl-C cannot end a blocked thread."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        descriptor = stream.fileno()
        loop.add_reader(descriptor, ready.set)
    except (OSError, NotImplementedError):  # a regular file, which does not block for long, or no file
        chunk: bytes = await call_in_executor(stream.buffer.read, CHUNK_BYTES)
        return chunk
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, CHUNK_BYTES)
