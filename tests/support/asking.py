"""Asks the API's asynchronous addresses, as clients do."""

import json
from typing import Any

from django.test import AsyncClient

from tests.support.running_async import run


def post(key: str, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
    """Returns the status, the answer and the headers. Of a stream the answer is its
    `data` lines.
    """

    async def ask():
        response = await AsyncClient().post(
            f"/v1{path}",
            body if isinstance(body, bytes) else json.dumps(body),
            content_type="application/json",
            headers={"authorization": f"Bearer {key}"},
        )
        if not response.streaming:
            return response, response.content
        return response, b"".join([part async for part in response])

    response, content = run(ask())
    if response["Content-Type"] == "text/event-stream":
        return response.status_code, events(content), response.headers
    return response.status_code, json.loads(content), response.headers


def events(content: bytes) -> list[Any]:
    lines = content.decode().split("\n\n")
    assert lines.pop() == ""
    told = [line.removeprefix("data: ") for line in lines]
    return [line if line == "[DONE]" else json.loads(line) for line in told]
