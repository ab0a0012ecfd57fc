"""HTTP as uvicorn speaks it, with limits for those who connect and never ask.

Nothing is known of a sender until a request is complete. Until then a connection gets a
few seconds, a few kilobytes for its headers, and a place only as long as others do not
need it more.
"""

import asyncio
import resource
from functools import cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
# A head must be complete after one such while. A body must bring MIN_BODY_BYTES in
# each.
PATIENCE_SECONDS = 10.0
MIN_BODY_BYTES = 1024
# The descriptors that are kept free for rows, files and other servers.
SPARE_DESCRIPTORS = 256
MAX_DESCRIPTORS = 65_536


def raise_descriptor_limit() -> None:
    """Lets this process open as many files and connections as the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, MAX_DESCRIPTORS), hard))


@cache
def max_connections() -> int:
    """Returns how many connections may be open: fewer than there are descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft - SPARE_DESCRIPTORS, soft // 2)


# Those whose request is not complete, the one that waits longest first.
_asking: dict["PatientProtocol", None] = {}


class PatientProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.in_head = True
        self.head_bytes = 0
        self.body_bytes = 0
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_to_wait()
        if len(self.connections) > max_connections():
            next(iter(_asking)).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_to_wait()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.timer is None:
            self._begin_to_wait()
        if self.in_head:
            # The parser keeps an unfinished header, so it is given no more of one.
            if self.head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()
                return
            self.head_bytes += len(data)
        else:
            self.body_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        self.in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.in_head = False
        self.head_bytes = self.body_bytes = 0
        size = len(self.url) + sum(
            len(name) + len(value) for name, value in self.headers
        )
        if size > MAX_HEAD_BYTES:
            # The parser stops at an error, and nothing of the request is answered.
            self._refuse_head()
            raise ValueError("the head is too long")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._end_to_wait()
        self.in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _refuse_head(self) -> None:
        self.transport.write(STATUS_LINE[431] + b"connection: close\r\n\r\n")
        self.transport.close()

    # ----- patience

    def _begin_to_wait(self) -> None:
        _asking[self] = None
        self.timer = self.loop.call_later(PATIENCE_SECONDS, self._lose_patience)

    def _end_to_wait(self) -> None:
        _asking.pop(self, None)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _lose_patience(self) -> None:
        # A body that the application does not read yet cannot come.
        comes = self.flow.read_paused or self.body_bytes >= MIN_BODY_BYTES
        if self.in_head or not comes:
            self.transport.abort()
            return
        self.body_bytes = 0
        self.timer = self.loop.call_later(PATIENCE_SECONDS, self._lose_patience)
