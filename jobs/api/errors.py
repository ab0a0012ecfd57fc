"""Turns every error of /v1 into OpenAI's shape, whatever raised it."""

import logging
import re
from http import HTTPStatus
from typing import Any, NoReturn

from django.core.exceptions import (
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import InterfaceError, OperationalError
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    UnreadablePostError,
)
from django.http.multipartparser import MultiPartParserError
from ninja import NinjaAPI, Schema
from ninja.errors import AuthenticationError, HttpError, ValidationError

from finetune_site.common.errors import BusyError, LaterError, TooLongError, UserError
from jobs.engines.far_server import TOO_LONG
from jobs.selectors.model_names import UnknownModelError

logger = logging.getLogger(__name__)

NO_KEY = (
    "This server does not know the API key. Make one on the Team page and send it as "
    "'Authorization: Bearer KEY' (the official client reads OPENAI_API_KEY)."
)
# Seconds that a client is told to wait.
BUSY_SECONDS = 2
LATER_SECONDS = 10
BROKEN = "The server met a fault of its own; its log has the details. Try again later."
NO_DATABASE = "The site's database is busy or away. Try again."
NOTHING_HERE = "There is nothing at this address. Does the base URL end in /v1?"

WRONG_HOST = (
    "The site does not answer under the host name or IP address that it was asked by. "
    "Start it with `manage.py up --host` and that name, or add the name to "
    "ALLOWED_HOSTS."
)


class ErrorDetail(Schema):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(Schema):
    error: ErrorDetail


class ApiError(Exception):
    """An answer that is an error. Its status is never 409, which old clients retry for
    ever.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after


def not_found(what: str, name: str, *, param: str | None = None) -> NoReturn:
    """Raises the ApiError for a missing thing, such as a file of that name."""
    raise ApiError(
        HTTPStatus.NOT_FOUND,
        f"There is no {what} {name[:200]!r} here, or it was deleted.",
        param=param,
        code="not_found",
    )


def answers(answer: Any) -> dict[Any, Any]:
    """Returns the `response` of a route: its answer and the errors of any route."""
    return {HTTPStatus.OK: answer, frozenset(ERRORS): ErrorBody}


# A number as pages write it: 2,048.
GROUPED = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")
ERRORS = (400, 401, 403, 404, 413, 422, 429, 500, 503)


def error_response(error: ApiError) -> HttpResponse:
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    return JsonResponse(error_body(error), status=error.status, headers=headers)


def error_body(error: ApiError) -> dict[str, Any]:
    detail = {
        "message": with_plain_numbers(error.message),
        "type": type_of(error.status),
        "param": error.param,
        "code": error.code,
    }
    return {"error": detail}


def with_plain_numbers(message: str) -> str:
    """Returns a message whose numbers are digits alone, as programs look for them."""
    return GROUPED.sub(lambda number: number[0].replace(",", ""), message)


def type_of(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    if status == HTTPStatus.FORBIDDEN:
        return "permission_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def as_api_error(error: object) -> ApiError:
    """Returns what a client is told of an exception. An unknown one is logged, and the
    client does not see it.
    """
    match error:
        case ApiError():
            return error
        case BusyError():
            return ApiError(429, error.message, retry_after=BUSY_SECONDS)
        case LaterError():
            return ApiError(503, error.message, retry_after=LATER_SECONDS)
        case UnknownModelError():
            return ApiError(404, error.message, param="model", code="model_not_found")
        case TooLongError():
            return ApiError(400, error.message, param=error.field, code=TOO_LONG)
        case UserError():
            return ApiError(400, error.message, param=error.field)
        case ValidationError():
            return _invalid(error)
        case AuthenticationError():
            return ApiError(401, NO_KEY, code="invalid_api_key")
        case PermissionDenied():
            return ApiError(403, str(error))
        case Http404():
            return ApiError(404, NOTHING_HERE, code="not_found")
        case RequestDataTooBig():
            return ApiError(413, "The body is larger than this address takes.")
        case DisallowedHost():
            return ApiError(400, WRONG_HOST, code="host_not_allowed")
        case MultiPartParserError() | SuspiciousOperation() | UnreadablePostError():
            return ApiError(400, f"The form cannot be read: {error}")
        case HttpError():
            return ApiError(error.status_code, error.message)
        case OperationalError() | InterfaceError():
            logger.warning("The database does not answer: %s", error)
            return ApiError(503, NO_DATABASE, retry_after=LATER_SECONDS)
    logger.error("A request to the API failed", exc_info=True)
    return ApiError(500, BROKEN)


def _invalid(error: ValidationError) -> ApiError:
    """Returns the first error, with the field's path as clients write it."""
    first = error.errors[0]
    # The first part says body, query or path; the second is our parameter's name.
    path = [str(part) for part in first["loc"]]
    named = path[2:] if path[0] in {"body", "form"} and len(path) > 2 else path[1:]
    param = ".".join(named) or None
    message = f"{param}: {first['msg']}" if param else first["msg"]
    return ApiError(400, message, param=param, code="invalid_value")


def install(api: NinjaAPI) -> None:
    """Makes the API answer every exception in our shape."""

    def answer(request: HttpRequest, error: object) -> HttpResponse:
        return error_response(as_api_error(error))

    for kind in (Exception, Http404, HttpError, ValidationError):
        api.add_exception_handler(kind, answer)
