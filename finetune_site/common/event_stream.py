"""Reads server-sent events, the form in which servers of this API stream answers."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

MAX_LINE_BYTES = 10_000_000


class BrokenStreamError(Exception):
    """The stream ended before its last event, or has a line that is too long."""


def read_events(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yields the JSON object of each event, up to the event `[DONE]`.

    `pieces` are the bytes of the body, cut anywhere. Raises BrokenStreamError, and
    orjson.JSONDecodeError where an event holds no JSON.
    """
    for line in _lines(pieces):
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        yield orjson.loads(data)
    raise BrokenStreamError


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    # Only \n ends a line: the text of an event may hold the other line ends of Unicode.
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > MAX_LINE_BYTES:
            raise BrokenStreamError
