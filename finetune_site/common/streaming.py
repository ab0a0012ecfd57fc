"""Sends files of any size in constant memory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

CHUNK_BYTES = 1024 * 1024


async def file_chunks(path: Path) -> AsyncIterator[bytes]:
    """Yields the file's bytes. It is asynchronous, because an ASGI server would read
    all of a plain iterator into memory first.
    """
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield data
