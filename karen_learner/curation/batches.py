"""A stream in lists of bounded length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


async def batches(items: AsyncIterable[Item] | Iterable[Item], size: int) -> AsyncIterator[list[Item]]:
    """Lists of up to `size` items. What is not asynchronous is read in a thread: it may be a file."""
    if not isinstance(items, AsyncIterable):
        iterator = iter(items)
        while batch := await asyncio.to_thread(lambda: list(islice(iterator, size))):
            yield batch
        return
    batch = []
    async for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
