"""Writes and reads server-sent events, the form in which answers are streamed.

The command line reads them too, so this module imports no Django.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from finetune_site.common.lines import LineCutter

MAX_LINE_BYTES = 10_000_000
CONTENT_TYPE = "text/event-stream"
# Nothing between server and reader may keep the events, or gather them.
STREAM_HEADERS = {
    "Content-Type": CONTENT_TYPE,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
DONE = b"[DONE]"
LAST_EVENT = b"data: " + DONE + b"\n\n"
# A comment, which readers pass over.
SIGN_OF_LIFE = b": still here\n\n"


class BrokenStreamError(Exception):
    """The stream ended before its last event, or has a line that is too long."""


def write_event(content: dict[str, Any], number: int | None = None) -> bytes:
    """Returns the event's bytes. A browser that connects again tells the last number
    that it has.
    """
    head = b"" if number is None else b"id: %d\n" % number
    return head + b"data: " + orjson.dumps(content) + b"\n\n"


def read_event_stream(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yields the JSON object of each event, up to the event `[DONE]`.

    `pieces` are the bytes of the body, cut anywhere. Raises BrokenStreamError, and
    orjson.JSONDecodeError where an event holds no JSON.
    """
    for line in _lines(pieces):
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == DONE:
            return
        yield orjson.loads(data)
    raise BrokenStreamError


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    cutter = LineCutter()
    for piece in pieces:
        yield from cutter.push(piece)
        if len(cutter.rest) > MAX_LINE_BYTES:
            raise BrokenStreamError
