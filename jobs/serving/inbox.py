"""Where the web side of the model server leaves requests for the generating thread."""

import asyncio
import threading
from collections import deque
from typing import Any

from jobs.serving.request import CompletionRequest, RequestError

# More than these waiting or being answered, and the next is refused.
MAX_OPEN = 64
# Of one answer, for whoever reads slowly: longer than any answer of the playground.
MAX_UNREAD_LINES = 4096
UNREAD = (
    "The answer was not read as fast as it came, so it was stopped. Read it at once, "
    "or ask for less."
)


class Asked:
    """A request, and the queue through which its answer goes back, line by line."""

    def __init__(self, request: CompletionRequest) -> None:
        self.request = request
        # Requests that are equal in this share their turns.
        self.asker: object = self if request.asker is None else request.asker
        # Set when whoever asked has gone. Written by one thread, read by the other.
        self.cancelled = False
        # Set once its model is here and reads it.
        self.begun = False
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        # Each is counted by one thread alone.
        self._num_put = self._num_read = 0

    def put(self, line: dict[str, Any]) -> None:
        """From the generating thread, which never waits for a reader: an answer that
        nobody reads ends. A loop that has closed needs no answer.
        """
        if self.cancelled:
            return
        if self._num_put - self._num_read >= MAX_UNREAD_LINES:
            line = {"error": {"message": UNREAD, "kind": "request", "field": None}}
            self.cancelled = True
        self._num_put += 1
        try:
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
        except RuntimeError:
            self.cancelled = True

    def refuse(self, message: str, kind: str, field: str | None = None) -> None:
        self.put({"error": {"message": message, "kind": kind, "field": field}})

    async def next_line(self) -> dict[str, Any]:
        line = await self._lines.get()
        self._num_read += 1
        return line


class Inbox:
    """New requests. Waiting for one costs nothing."""

    def __init__(self) -> None:
        self._waiting: deque[Asked] = deque()
        self._changed = threading.Condition()
        self._woken = False
        self.num_open = 0
        self.closed = False

    def put(self, asked: Asked) -> None:
        with self._changed:
            if self.num_open >= MAX_OPEN:
                raise RequestError(
                    "Too many questions are being answered. Try again in a minute.",
                    "busy",
                )
            self.num_open += 1
            self._waiting.append(asked)
            self._changed.notify()

    def done(self, asked: Asked) -> None:
        """Whoever asked has all of it, or has gone."""
        with self._changed:
            asked.cancelled = True
            self.num_open -= 1

    def take(self, *, wait: bool) -> list[Asked]:
        with self._changed:
            if wait:
                self._changed.wait_for(
                    lambda: self._waiting or self._woken or self.closed
                )
            self._woken = False
            taken = list(self._waiting)
            self._waiting.clear()
            return taken

    def wake(self) -> None:
        """Let `take` return with nothing: something else has happened."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify()
