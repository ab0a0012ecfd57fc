"""Sends answers in pieces: server-sent events as OpenAI's clients read them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from django.http import StreamingHttpResponse

from finetune_site.common.event_stream import (
    CONTENT_TYPE,
    LAST_EVENT,
    STREAM_HEADERS,
    write_event,
)
from jobs.api.errors import as_api_error, error_body

# Describes routes that answer with events when the body says `"stream": true`.
MAY_STREAM: dict[str, Any] = {"responses": {200: {"content": {CONTENT_TYPE: {}}}}}


async def streamed(chunks: AsyncGenerator[dict[str, Any]]) -> StreamingHttpResponse:
    """Returns the response once there is a first chunk, so that what fails before it is
    an error with its own status. A later failure is a last chunk with `error`.
    """
    first = await anext(chunks)
    return StreamingHttpResponse(_events(first, chunks), headers=STREAM_HEADERS)


async def _events(
    first: dict[str, Any], chunks: AsyncGenerator[dict[str, Any]]
) -> AsyncGenerator[bytes]:
    async with aclosing(chunks):
        yield write_event(first)
        try:
            async for chunk in chunks:
                yield write_event(chunk)
        except Exception as error:
            yield write_event(error_body(as_api_error(error)))
            return
        yield LAST_EVENT
