"""Hands requests from the web side of the model server to the generating thread."""

import asyncio
import threading
from collections import deque
from typing import Any

from jobs.serving.request import CompletionRequest, RequestError

# How many requests may wait or be answered; the next one is refused.
MAX_OPEN = 64
# How many lines of one answer may wait for a slow reader. No answer in the playground
# is as long.
MAX_UNREAD_LINES = 4096
UNREAD = (
    "The answer was not read as fast as it came, so it was stopped. Read it at once, "
    "or ask for less."
)


class Asked:
    """A request, and the queue through which its answer goes back, line by line."""

    def __init__(self, request: CompletionRequest) -> None:
        self.request = request
        # The requests of one asker share their turns.
        self.asker: object = self if request.asker is None else request.asker
        # Set when the asker has gone. One thread writes it, the other reads it.
        self.cancelled = False
        # Set once the model is loaded and reads the prompt.
        self.begun = False
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        # Each of the two is changed by one thread alone.
        self._num_put = self._num_read = 0

    def put(self, line: dict[str, Any]) -> None:
        """Adds a line of the answer; the generating thread calls it.

        That thread never waits for a reader: an answer that is not read ends with an
        error.
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
            # The loop has closed, so nobody needs the answer.
            self.cancelled = True

    def refuse(self, message: str, kind: str, field: str | None = None) -> None:
        """Ends the answer with an error; `kind` is as in RequestError."""
        self.put({"error": {"message": message, "kind": kind, "field": field}})

    async def next_line(self) -> dict[str, Any]:
        """Waits for the next line of the answer, and returns it."""
        line = await self._lines.get()
        self._num_read += 1
        return line


class Inbox:
    """The new requests. To wait for one costs no time of the processor."""

    def __init__(self) -> None:
        self._waiting: deque[Asked] = deque()
        self._changed = threading.Condition()
        self._woken = False
        self.num_open = 0
        self.closed = False

    def put(self, asked: Asked) -> None:
        """Adds a request. Raises RequestError if there are too many."""
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
        """Notes that the asker has the whole answer, or has gone."""
        with self._changed:
            asked.cancelled = True
            self.num_open -= 1

    def take(self, *, wait: bool) -> list[Asked]:
        """Returns the new requests; with `wait`, once something has happened."""
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
        """Lets `take` return, because something else has happened than a request."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def close(self) -> None:
        """Tells the generating thread to end."""
        with self._changed:
            self.closed = True
            self._changed.notify()
