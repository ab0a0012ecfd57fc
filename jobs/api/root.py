"""/v1 as a whole: its parts, and what holds for every answer."""

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

# Ninja looks for the address of the whole under this name.
ROOT = "api-root"

# Of OpenAI's API, what people's programs may ask for and no part of ours answers.
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
        """Programs that are made from the document name their functions so."""
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


def finished(response: HttpResponseBase, method: str | None) -> HttpResponseBase:
    """An id to find the request by, and errors of the framework in our shape."""
    if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = response.headers.get("Allow", "")
        words = f"{method} does not work at this address; use {allowed}."
        response = error_response(ApiError(405, words, code="method_not_allowed"))
        response.headers["Allow"] = allowed
    response.headers["x-request-id"] = f"req_{secrets.token_hex(12)}"
    return response


def finish(view: View) -> View:
    """Keys stand in for signing in here."""
    if iscoroutinefunction(view):

        @wraps(view)
        async def finished_later(request: HttpRequest, **kwargs: Any) -> Any:
            return finished(await view(request, **kwargs), request.method)

        return login_not_required(finished_later)

    @wraps(view)
    def finished_view(request: HttpRequest, **kwargs: Any) -> Any:
        return finished(view(request, **kwargs), request.method)

    return login_not_required(finished_view)


def finished_error(error: ApiError) -> HttpResponse:
    """For what goes wrong before a view is reached."""
    return cast(HttpResponse, finished(error_response(error), None))


@csrf_exempt
def nothing_here(request: HttpRequest) -> HttpResponse:
    part = request.path.removeprefix("/v1/").partition("/")[0]
    words = NOT_OFFERED.format(part) if part in OTHER_PARTS else NOTHING_HERE
    return error_response(ApiError(404, words, code="not_found"))


# For /v1 without a slash too.
no_route = finish(nothing_here)


def routes() -> list[URLPattern]:
    """Of every part, and an answer for all other addresses below /v1/."""
    found = [one for one in api.urls[0] if isinstance(one, URLPattern)]
    # Ninja's own root answers with the site's page for 404.
    patterns = [one for one in found if one.name != ROOT]
    for pattern in patterns:
        pattern.callback = finish(pattern.callback)
    return [*patterns, path("", no_route, name=ROOT), re_path(r"", no_route)]


urls = (routes(), "api", "api")
