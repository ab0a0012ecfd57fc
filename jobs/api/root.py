"""Builds /v1 from its parts, and adds what every answer has in common."""

import secrets
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, cast

from asgiref.sync import iscoroutinefunction
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import URLPattern, path, re_path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.operation import Operation

from jobs.api import (
    checkpoints,
    errors,
    events,
    files,
    fine_tunes,
    fine_tuning,
    models,
    plan,
    snapshot_requests,
    snapshots,
)
from jobs.api.answering import chat, completions, engines
from jobs.api.errors import NOTHING_HERE, ApiError, error_response
from jobs.api.keys import reader

View = Callable[..., Any]

# Ninja looks up the address of the whole API by this name.
ROOT = "api-root"

# Parts of OpenAI's API that people's programs may ask for, and that we do not have.
OTHER_PARTS = {
    "answers",
    "assistants",
    "audio",
    "batches",
    "classifications",
    "containers",
    "conversations",
    "edits",
    "embeddings",
    "evals",
    "images",
    "moderations",
    "organization",
    "realtime",
    "responses",
    "threads",
    "uploads",
    "vector_stores",
    "videos",
}
NOT_OFFERED = (
    "This server does not offer /v1/{} of OpenAI's API. It offers files, fine-tuning, "
    "models, completions and chat completions; the page /docs/api lists them."
)


class Api(NinjaAPI):
    def get_openapi_operation_id(self, operation: Operation) -> str:
        """Returns the name that generated client programs give to their function."""
        return operation.view_func.__name__


api = Api(
    title="Fine-tuning API",
    version="1",
    description=(
        "OpenAI's files, fine-tuning, models and completions API, answered by this "
        "site, with a few fields of its own."
    ),
    docs_url=None,
    openapi_url="/openapi.json",
    auth=reader,
    urls_namespace="api",
)
errors.install(api)
for part in (
    files,
    models,
    snapshots,
    fine_tunes,
    fine_tuning,
    events,
    checkpoints,
    plan,
    snapshot_requests,
    completions,
    engines,
    chat,
):
    api.add_router("", part.router)


def with_request_id(response: HttpResponseBase) -> HttpResponseBase:
    """Adds a random id, by which people can find and report the request."""
    response.headers["x-request-id"] = f"req_{secrets.token_hex(12)}"
    return response


def in_our_shape(response: HttpResponseBase, method: str | None) -> HttpResponseBase:
    """Replaces the framework's own answer to a wrong method by an error of the API."""
    if response.status_code != HTTPStatus.METHOD_NOT_ALLOWED:
        return response
    allowed = response.headers.get("Allow", "")
    words = f"{method} does not work at this address; use {allowed}."
    error = error_response(ApiError(405, words, code="method_not_allowed"))
    error.headers["Allow"] = allowed
    return error


def api_view(view: View) -> View:
    """Returns the view as /v1 needs it: without a sign-in, since API keys take its
    place, and with a request id and our error shape in every answer.
    """

    def complete(response: HttpResponseBase, request: HttpRequest) -> HttpResponseBase:
        return with_request_id(in_our_shape(response, request.method))

    if iscoroutinefunction(view):

        @wraps(view)
        async def async_view(request: HttpRequest, **kwargs: Any) -> Any:
            return complete(await view(request, **kwargs), request)

        return login_not_required(async_view)

    @wraps(view)
    def sync_view(request: HttpRequest, **kwargs: Any) -> Any:
        return complete(view(request, **kwargs), request)

    return login_not_required(sync_view)


def error_before_view(error: ApiError) -> HttpResponse:
    """Returns the response to a request that fails before any view of /v1 gets it."""
    return cast(HttpResponse, with_request_id(error_response(error)))


@csrf_exempt
def unknown_address(request: HttpRequest) -> HttpResponse:
    part = request.path.removeprefix("/v1/").partition("/")[0]
    words = NOT_OFFERED.format(part) if part in OTHER_PARTS else NOTHING_HERE
    return error_response(ApiError(404, words, code="not_found"))


# The site map uses it too, for /v1 without a slash.
unknown_address_view = api_view(unknown_address)


def routes() -> list[URLPattern]:
    """Returns the routes of every part, and one for all other addresses below /v1/."""
    found = [one for one in api.urls[0] if isinstance(one, URLPattern)]
    # Ninja's own root would answer with the site's HTML page for 404.
    patterns = [one for one in found if one.name != ROOT]
    for pattern in patterns:
        pattern.callback = api_view(pattern.callback)
    return [
        *patterns,
        path("", unknown_address_view, name=ROOT),
        re_path(r"", unknown_address_view),
    ]


urls = (routes(), "api", "api")
