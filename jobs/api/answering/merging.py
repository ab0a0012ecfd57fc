"""Reads several streams at the same time, as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

Item = TypeVar("Item")


async def merge(
    streams: Sequence[AsyncGenerator[Item]], *, max_at_once: int, max_unread: int
) -> AsyncGenerator[tuple[int, Item]]:
    """Yields the items of all streams as they come, each with its stream's position.

    At most `max_at_once` streams are read at a time, and at most `max_unread` items
    wait for the caller: while it takes none, no more are taken from the streams. Raises
    the first error of a stream, after the items that came before it. All streams are
    closed when the caller stops reading.
    """
    # The limit is a semaphore, so that the end of a stream always finds room.
    unread: asyncio.Queue[tuple[int, Item | None]] = asyncio.Queue()
    room = asyncio.Semaphore(max_unread)
    turns = asyncio.Semaphore(max_at_once)

    async def read(position: int, stream: AsyncGenerator[Item]) -> None:
        try:
            async with turns, aclosing(stream):
                async for item in stream:
                    await room.acquire()
                    unread.put_nowait((position, item))
        finally:
            unread.put_nowait((position, None))

    readers = [
        asyncio.create_task(read(position, stream))
        for position, stream in enumerate(streams)
    ]
    try:
        num_open = len(readers)
        while num_open:
            position, item = await unread.get()
            if item is None:
                num_open -= 1
                await readers[position]  # Raises the error that ended the stream.
            else:
                room.release()
                yield position, item
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
