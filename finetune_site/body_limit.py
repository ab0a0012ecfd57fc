"""Refuses large request bodies before anything of them reaches the disk.

Django writes a whole body to a file before any view asks who sent it. Uploads may be
large, so for them the sender is checked here.
"""

import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpResponse
from django.urls import Resolver404, resolve

from finetune_site.error_pages import is_for_api
from finetune_site.team.sender import may_send_files
from jobs.api.errors import ApiError, error_response

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

# The names of the routes that take files.
UPLOAD_ROUTES = {"dataset-new", "dataset-upload", "api:upload_file"}
# What a form holds beside its file: other fields and their headers.
REST_OF_FORM_BYTES = 1024 * 1024
# The disk also holds the rows, the checkpoints and what is made of an upload.
RESERVE_BYTES = 256 * 1024 * 1024
# Bodies that are no larger need no look at the disk.
SMALL_BYTES = 2 * 1024 * 1024

TOO_LARGE = ApiError(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "This is more than the site takes. Send less at once.",
)
NOT_FROM_YOU = ApiError(
    HTTPStatus.FORBIDDEN,
    "Only members of the team who are no viewers may send files. Sign in, or send the "
    "API key of one.",
)


NO_ROOM = ApiError(
    HTTPStatus.INSUFFICIENT_STORAGE,
    "The disk of this site has too little room for this file. Tell an admin, who can "
    "make some.",
)


class _TooLargeError(Exception):
    pass


class _Room:
    """Knows how much of the disk is free for uploads, those under way deducted.

    Without it two uploads would both see the room that only one of them finds.
    """

    def __init__(self) -> None:
        self.promised = 0

    def is_left(self, size: int = 0) -> bool:
        free = shutil.disk_usage(settings.FILE_UPLOAD_TEMP_DIR).free
        return free - self.promised - size >= RESERVE_BYTES

    @contextmanager
    def kept(self, size: int) -> "Iterator[_Promise | None]":
        """Keeps room for so many bytes; yields None if there is too little."""
        if size <= SMALL_BYTES:
            yield _Promise(self, 0)
        elif not self.is_left(size):
            yield None
        else:
            promise = _Promise(self, size)
            try:
                yield promise
            finally:
                promise.arrived(promise.left)


class _Promise:
    """Room for a body. What has arrived of it takes room on the disk by itself."""

    def __init__(self, room: _Room, size: int) -> None:
        self.room = room
        self.left = size
        room.promised += size

    def arrived(self, size: int) -> None:
        size = min(size, self.left)
        self.left -= size
        self.room.promised -= size


_room = _Room()


def limit_bodies(app: App) -> App:
    """Returns the ASGI application with limits for the bodies of its requests."""

    async def limited(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        left, refusal = await _limit_of(scope)
        announced = _announced_bytes(scope)
        of_unknown_length = not announced and left > SMALL_BYTES
        if announced > left:
            return await _refuse(scope["path"], refusal, send)
        with _room.kept(announced) as promise:
            if promise is None:
                return await _refuse(scope["path"], NO_ROOM, send)

            async def counted() -> Message:
                nonlocal left, refusal
                message = await receive()
                size = len(message.get("body", b""))
                promise.arrived(size)
                left -= size
                if left < 0:
                    raise _TooLargeError
                if of_unknown_length and not _room.is_left():
                    refusal = NO_ROOM
                    raise _TooLargeError
                return message

            try:
                return await app(scope, counted, send)
            except _TooLargeError:
                return await _refuse(scope["path"], refusal, send)

    return limited


async def _limit_of(scope: Any) -> tuple[int, ApiError]:
    """Returns the most bytes that the body may have, and the answer to a larger one."""
    path = scope["path"]
    if scope["method"] != "POST" or not takes_files(path):
        return settings.DATA_UPLOAD_MAX_MEMORY_SIZE, TOO_LARGE
    if await sync_to_async(may_send_files)(scope, with_key=is_for_api(path)):
        return max_upload_bytes(), TOO_LARGE
    return settings.DATA_UPLOAD_MAX_MEMORY_SIZE, NOT_FROM_YOU


def takes_files(path: str) -> bool:
    """Returns whether files are uploaded to this path."""
    try:
        return resolve(path).view_name in UPLOAD_ROUTES
    except Resolver404:
        return False


def max_upload_bytes() -> int:
    return settings.MAX_UPLOAD_BYTES + REST_OF_FORM_BYTES


def _announced_bytes(scope: Any) -> int:
    """Returns 0 for a body of unknown length: its bytes are counted as they come."""
    return int(dict(scope["headers"]).get(b"content-length", 0))


async def _refuse(path: str, refusal: ApiError, send: Send) -> None:
    if is_for_api(path):
        response = error_response(refusal)
    else:
        text = f"{refusal.message}\n"
        response = HttpResponse(text, "text/plain", refusal.status)
    content_type = response["Content-Type"].encode()
    headers = [(b"content-type", content_type), (b"connection", b"close")]
    status = response.status_code
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
