"""Lines of standard input, as they come."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import AsyncIterator
from typing import TextIO

from asyncio_extras import call_in_executor

CHUNK_BYTES = 1 << 16


async def line_batches(stream: TextIO) -> AsyncIterator[list[str]]:
    """The lines that have come since the last batch, without their ends, as UTF-8.

    What is no UTF-8 is replaced. A batch comes as soon as a line is there: a slow writer is answered
    at once.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    while chunk := await _chunk(stream):
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        if lines:
            yield [line.removesuffix("\r") for line in lines]
    if rest := rest + decoder.decode(b"", final=True):
        yield [rest]


async def _chunk(stream: TextIO) -> bytes:
    """The next bytes. A terminal or a pipe is waited for in the loop, where Ctrl-C can end the wait;
    a thread that blocks in a read could not be ended."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        descriptor = stream.fileno()
        loop.add_reader(descriptor, ready.set)
    except (OSError, NotImplementedError):  # a regular file, which never blocks for long, or no file
        chunk: bytes = await call_in_executor(stream.buffer.read, CHUNK_BYTES)
        return chunk
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, CHUNK_BYTES)
