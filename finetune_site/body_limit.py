"""Refuses large request bodies, before anything of them reaches the disk.

Django writes a whole body to a file before it asks who sent it.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from django.conf import settings

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

UPLOAD_PATHS = re.compile(r"/datasets/(new|\d+/upload)/|/v1/files")
API_PATH = "/v1/"
# What a form holds beside its file.
REST_OF_FORM_BYTES = 1024 * 1024
WORDS = "This is more than the site takes. Send less at once."
# As jobs.api.errors writes it, which knows of models and comes after this.
API_ERROR = {
    "message": WORDS,
    "type": "invalid_request_error",
    "param": None,
    "code": None,
}


class _TooLargeError(Exception):
    pass


def limit_bodies(app: App) -> App:
    async def limited(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        left = most_bytes(scope["path"])
        if _announced_bytes(scope) > left:
            return await _refuse(scope["path"], send)

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLargeError
            return message

        try:
            return await app(scope, counted, send)
        except _TooLargeError:
            return await _refuse(scope["path"], send)

    return limited


def most_bytes(path: str) -> int:
    if UPLOAD_PATHS.fullmatch(path):
        return settings.MAX_UPLOAD_BYTES + REST_OF_FORM_BYTES
    return settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def _announced_bytes(scope: Any) -> int:
    """0 for a body of unknown length: its bytes are counted as they come."""
    return int(dict(scope["headers"]).get(b"content-length", 0))


async def _refuse(path: str, send: Send) -> None:
    kind, body = b"text/plain", f"{WORDS}\n"
    if path.startswith(API_PATH):
        kind, body = b"application/json", json.dumps({"error": API_ERROR})
    headers = [(b"content-type", kind), (b"connection", b"close")]
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
