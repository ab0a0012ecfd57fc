"""Keeps what members see out of caches, which others may read."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

PRIVATE = "private, no-store"


class PrivatePages:
    """Marks every answer as private that does not say itself how it may be kept.

    Static files never come here, since the middleware for them answers before.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[..., Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if iscoroutinefunction(self):
            return self._answer_later(request)
        return _marked(self.get_response(request))

    async def _answer_later(self, request: HttpRequest) -> HttpResponseBase:
        return _marked(await self.get_response(request))


def _marked(response: HttpResponseBase) -> HttpResponseBase:
    response.headers.setdefault("Cache-Control", PRIVATE)
    return response
