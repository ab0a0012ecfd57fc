"""The web side of the model server: plain ASGI, without a framework."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from jobs.serving.inbox import Asked, Inbox
from jobs.serving.request import RequestError, parse

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Enough for a prompt of 100,000 characters, each written as a JSON escape.
MAX_BODY_BYTES = 2_000_000
STATUS_OF_KIND = {
    "request": 400,
    "context": 400,
    "model": 422,
    "busy": 429,
    "internal": 500,
    "loading": 503,
}
# How long a request waits until its model is loaded and has room for it.
WAIT_SECONDS = 120.0
LOADING = (
    "The model is still being loaded, or has too many questions before this one. Try "
    "again in a minute."
)
STARTED_AT = time.monotonic()


class App:
    """Answers `GET /health` and `POST /complete`.

    `generate` runs in a thread of its own and answers what comes into the inbox.
    """

    def __init__(self, generate: Callable[[Inbox], None]) -> None:
        self.inbox = Inbox()
        self.thread = threading.Thread(
            target=generate, args=[self.inbox], name="generate", daemon=True
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif (scope["method"], scope["path"]) == ("GET", "/health"):
            await _reply(send, *self._health())
        elif (scope["method"], scope["path"]) == ("POST", "/complete"):
            await self._complete(receive, send)
        else:
            nothing = _error("There is nothing at this address", "request")
            await _reply(send, 404, nothing)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        # The imports of the thread take seconds, in which health is answered already.
        self.thread.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.inbox.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _health(self) -> tuple[int, dict[str, Any]]:
        works = self.thread.is_alive()
        return 200 if works else 503, {
            "status": "ok" if works else "broken",
            "seconds": round(time.monotonic() - STARTED_AT, 1),
            "open_requests": self.inbox.num_open,
        }

    async def _complete(self, receive: Receive, send: Send) -> None:
        try:
            asked = Asked(parse(orjson.loads(await _body(receive))))
            self.inbox.put(asked)
        except orjson.JSONDecodeError:
            await _refuse(send, "The body must be JSON", "request")
            return
        except RequestError as error:
            await _refuse(send, error.message, error.kind, error.field)
            return
        answer = asyncio.create_task(_send_lines(asked, send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.inbox.done(asked)
            for task in (answer, gone):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def _send_lines(asked: Asked, send: Send) -> None:
    line = await _first_line(asked)
    if "error" in line:
        await _refuse(send, **line["error"])
        return
    await send(_start(200, b"application/jsonl"))
    while True:
        more = "done" not in line and "error" not in line
        body = orjson.dumps(line) + b"\n"
        await send({"type": "http.response.body", "body": body, "more_body": more})
        if not more:
            return
        line = await asked.next_line()


async def _first_line(asked: Asked) -> dict[str, Any]:
    """Returns the first line, or an error after WAIT_SECONDS without a model.

    Once the model is at it, the wait has no limit: the best of several answers, for
    example, may take long.
    """
    try:
        return await asyncio.wait_for(asked.next_line(), WAIT_SECONDS)
    except TimeoutError:
        if not asked.begun:
            return _error(LOADING, "loading")
        return await asked.next_line()


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError("The body ended too early")
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
        if sum(map(len, parts)) > MAX_BODY_BYTES:
            raise RequestError(f"The body is larger than {MAX_BODY_BYTES:,} bytes")
    return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(
    send: Send, message: str, kind: str, field: str | None = None
) -> None:
    await _reply(send, STATUS_OF_KIND[kind], _error(message, kind, field))


def _error(message: str, kind: str, field: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "kind": kind, "field": field}}


async def _reply(send: Send, status: int, body: dict[str, Any]) -> None:
    await send(_start(status, b"application/json"))
    await send({"type": "http.response.body", "body": orjson.dumps(body)})


def _start(status: int, content_type: bytes) -> Message:
    headers = [(b"content-type", content_type)]
    return {"type": "http.response.start", "status": status, "headers": headers}
