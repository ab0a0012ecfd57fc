"""Answers to errors outside of the views: pages for people, JSON for programs."""

from django.http import HttpRequest, HttpResponse
from django.views import defaults

from jobs.api.errors import BROKEN, NOTHING_HERE, ApiError, as_api_error
from jobs.api.root import error_before_view

API = "/v1"


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answers mostly for a host that is not allowed, which no view gets to see."""
    if is_for_api(request.path):
        return error_before_view(as_api_error(exception))
    return defaults.bad_request(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_for_api(request.path):
        return error_before_view(ApiError(404, NOTHING_HERE, code="not_found"))
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    if is_for_api(request.path):
        return error_before_view(ApiError(500, BROKEN))
    return defaults.server_error(request)


def is_for_api(path: str) -> bool:
    """Returns whether a program asks. No page has an address that begins with /v1, so
    this includes an address that was put together wrongly, such as /v1files.
    """
    return path.startswith(API)
