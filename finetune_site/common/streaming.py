"""Sends files of any size in constant memory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

CHUNK_BYTES = 1024 * 1024


async def file_chunks(path: Path) -> AsyncIterator[bytes]:
    """Asynchronous, because a server would read a plain iterator whole into memory."""
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield data
