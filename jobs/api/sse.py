"""Sends answers in pieces: server-sent events as OpenAI's clients read them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from django.http import StreamingHttpResponse

from jobs.api.errors import as_api_error, error_body

CONTENT_TYPE = "text/event-stream"
DONE = b"data: [DONE]\n\n"

# Describes routes that answer with events when the body says `"stream": true`.
MAY_STREAM: dict[str, Any] = {"responses": {200: {"content": {CONTENT_TYPE: {}}}}}


async def streamed(chunks: AsyncGenerator[dict[str, Any]]) -> StreamingHttpResponse:
    """Returns the response once there is a first chunk, so that what fails before it is
    an error with its own status. A later failure is a last chunk with `error`.
    """
    first = await anext(chunks)
    return StreamingHttpResponse(
        _events(first, chunks),
        content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(
    first: dict[str, Any], chunks: AsyncGenerator[dict[str, Any]]
) -> AsyncGenerator[bytes]:
    async with aclosing(chunks):
        yield _event(first)
        try:
            async for chunk in chunks:
                yield _event(chunk)
        except Exception as error:
            yield _event(error_body(as_api_error(error)))
            return
        yield DONE


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"
