"""Ends the open streams of members who are taken off the team.

Whoever asks anew is checked anew, but an answer may be under way for minutes. For a
member who may no longer see it, it ends as if the reader had gone away.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from finetune_site.team.models import Member

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

LOOK_SECONDS = 2.0
# The place in the scope of a request for who reads its stream.
READER = "finetune.reader"
GONE = {"type": "http.disconnect"}
START = "http.response.start"


@sync_and_async_middleware
def note_reader(get_response: Callable[..., Any]) -> Callable[..., Any]:
    """Notes in the request's scope which member reads a stream."""
    if not asyncio.iscoroutinefunction(get_response):
        return get_response

    async def noting(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await get_response(request)
        if response.streaming and isinstance(member := await _sender(request), Member):
            scope = cast(dict[str, Any], cast(ASGIRequest, request).scope)
            scope[READER] = (member.pk, member.generation)
        return response

    return noting


async def _sender(request: HttpRequest) -> Any:
    # The API has put the member of the key there; pages have a promise of a member,
    # which this may not wait for.
    user = request.user
    return user if type(user) is Member else await request.auser()


def end_streams_of_leavers(app: App) -> App:
    """Returns the ASGI application, whose streams end within some LOOK_SECONDS."""

    async def ending(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        is_open = False

        async def received() -> Message:
            message = asyncio.ensure_future(receive())
            try:
                while not (await asyncio.wait({message}, timeout=LOOK_SECONDS))[0]:
                    if READER in scope and await _has_left(*scope[READER]):
                        return GONE
                return message.result()
            finally:
                message.cancel()

        async def sent(message: Message) -> None:
            nonlocal is_open
            # A part of the body is the last one unless it says otherwise.
            is_open = bool(message.get("more_body", message["type"] == START))
            await send(message)

        await app(scope, received, sent)
        if is_open:
            # The reader, who is still there, is told that nothing more comes.
            await send({"type": "http.response.body", "body": b""})

    return ending


async def _has_left(pk: int, generation: int) -> bool:
    return not await sync_to_async(_is_here)(pk, generation)


def _is_here(pk: int, generation: int) -> bool:
    here = Member.objects.filter(pk=pk, is_active=True, generation=generation)
    try:
        return here.exists()
    finally:
        # This runs outside of Django's handling of requests, which would do it.
        connections.close_all()
