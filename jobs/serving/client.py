"""Talks to the model server over its socket, with neither Django nor torch."""

import asyncio
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import orjson

from finetune_site.common.errors import BusyError, LaterError, TooLongError, UserError
from finetune_site.common.lines import LineCutter

# A socket's path may have about 104 bytes, depending on the system.
MAX_PATH_BYTES = 100
# How long to wait while the server starts again, and between two tries.
RESTART_SECONDS = 10.0
RETRY_SECONDS = 0.1
# How long an answer about its health may take.
HEALTH_SECONDS = 1.0
# Before the first word a large model may have to be loaded from a slow disk.
ANSWER_SECONDS = 300.0
BASE_URL = "http://model-server"

STARTING = "The model server is starting. Try again in a few seconds."
STOPPED = "The model server stopped while it answered. Try again in a few seconds."
SLOW = "The model server did not answer in time. Try again with fewer tokens."
# The errors by the kind of refusal. Any other kind is for the person to correct.
ERRORS = {
    "busy": BusyError,
    "loading": LaterError,
    "internal": LaterError,
    "context": TooLongError,
}


class AwayError(LaterError):
    """The server is not there, or left before it answered. It is started again."""


def socket_path(data_dir: Path | str) -> Path:
    """Returns where the model server of a data folder listens.

    It is in the folder `run`. Where that path is too long for a socket, it is in a
    private folder for temporary files that is named after the path.
    """
    path = Path(data_dir).resolve() / "run" / "serving.sock"
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"finetune-{os.getuid()}-{digest}" / path.name


def is_private(folder: Path) -> bool:
    """Returns whether nobody else can have put a socket into the folder."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return mine and not status.st_mode & 0o077


def is_alive(socket: Path) -> bool:
    """Returns whether a model server answers there at once."""
    if not is_private(socket.parent):
        return False
    transport = httpx2.HTTPTransport(uds=str(socket), verify=False)
    try:
        with httpx2.Client(transport=transport, timeout=HEALTH_SECONDS) as client:
            return client.get(f"{BASE_URL}/health").status_code == 200
    except httpx2.TransportError:
        return False


async def stream_completion(
    socket: Path, request: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """Yields the lines of an answer as they come; the last one has `done`.

    Raises UserError if the server refuses, AwayError if it is away, and LaterError if
    it stops half-way or takes too long.
    """
    async with AsyncExitStack() as stack:
        transport = httpx2.AsyncHTTPTransport(uds=str(socket), verify=False)
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=RESTART_SECONDS)
        client = await stack.enter_async_context(
            httpx2.AsyncClient(transport=transport, timeout=timeout)
        )
        response = await _connected(stack, client, socket, request)
        try:
            if response.status_code != 200:
                raise _refusal(await response.aread())
            async for line in _lines(response):
                yield line
        except httpx2.TimeoutException:
            raise LaterError(SLOW) from None
        except httpx2.TransportError:
            raise LaterError(STOPPED) from None


async def _connected(
    stack: AsyncExitStack,
    client: httpx2.AsyncClient,
    socket: Path,
    request: dict[str, Any],
) -> httpx2.Response:
    """Returns the response. Tries again while the server restarts.

    That is safe, because the server has not seen the request yet.
    """
    until = time.monotonic() + RESTART_SECONDS
    while True:
        try:
            if not is_private(socket.parent):
                raise httpx2.ConnectError(f"no private folder for {socket.name}")
            call = client.stream("POST", f"{BASE_URL}/complete", json=request)
            return await stack.enter_async_context(call)
        except httpx2.ConnectError:
            if time.monotonic() > until:
                raise AwayError(STARTING) from None
        except httpx2.TimeoutException:
            raise LaterError(SLOW) from None
        except httpx2.TransportError:
            raise AwayError(STOPPED) from None
        await asyncio.sleep(RETRY_SECONDS)


async def _lines(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    done = False
    cutter = LineCutter()
    async for piece in response.aiter_bytes():
        for text in cutter.push(piece):
            line = orjson.loads(text)
            if "error" in line:
                raise _error(line["error"])
            done = "done" in line
            yield line
    if not done:
        raise LaterError(STOPPED)


def _refusal(body: bytes) -> UserError:
    try:
        return _error(orjson.loads(body)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return UserError("The model server answered in a way that was not understood.")


def _error(told: dict[str, Any]) -> UserError:
    kind = ERRORS.get(told["kind"], UserError)
    return kind(str(told["message"]), field=told.get("field"))
