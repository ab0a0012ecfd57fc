"""Refuses large request bodies, before anything of them reaches the disk.

Django writes a whole body to a file before it asks who sent it. So for uploads, which
may be large, that is asked here.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.conf import settings

from finetune_site.team.sender import may_send_files

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

UPLOAD_PATHS = re.compile(r"/datasets/(new|\d+/upload)/|/v1/files")
API_PATH = "/v1/"
# What a form holds beside its file.
REST_OF_FORM_BYTES = 1024 * 1024


class Refusal(NamedTuple):
    status: HTTPStatus
    # As jobs.api.errors has it, which comes after this.
    kind: str
    words: str


TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "invalid_request_error",
    "This is more than the site takes. Send less at once.",
)
NOT_FROM_YOU = Refusal(
    HTTPStatus.FORBIDDEN,
    "permission_error",
    "Only members of the team who are no viewers may send files. Sign in, or send the "
    "API key of one.",
)


class _TooLargeError(Exception):
    pass


def limit_bodies(app: App) -> App:
    async def limited(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        left = await _limit_of(scope)
        refusal = TOO_LARGE if left == most_bytes(scope["path"]) else NOT_FROM_YOU
        if _announced_bytes(scope) > left:
            return await _refuse(scope["path"], refusal, send)

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
            return await _refuse(scope["path"], refusal, send)

    return limited


def most_bytes(path: str) -> int:
    if UPLOAD_PATHS.fullmatch(path):
        return settings.MAX_UPLOAD_BYTES + REST_OF_FORM_BYTES
    return settings.DATA_UPLOAD_MAX_MEMORY_SIZE


async def _limit_of(scope: Any) -> int:
    most = most_bytes(scope["path"])
    small = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if most == small or scope["method"] != "POST":
        return small
    with_key = scope["path"].startswith(API_PATH)
    is_known = await sync_to_async(may_send_files)(scope, with_key=with_key)
    return most if is_known else small


def _announced_bytes(scope: Any) -> int:
    """0 for a body of unknown length: its bytes are counted as they come."""
    return int(dict(scope["headers"]).get(b"content-length", 0))


async def _refuse(path: str, refusal: Refusal, send: Send) -> None:
    status, kind, words = refusal
    content_type, body = b"text/plain", f"{words}\n"
    if path.startswith(API_PATH):
        error = {"message": words, "type": kind, "param": None, "code": None}
        content_type, body = b"application/json", json.dumps({"error": error})
    headers = [(b"content-type", content_type), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
