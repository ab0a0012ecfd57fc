"""Checks who may do what. All members see everything; viewers change nothing."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from finetune_site.team.models import Member

View = Callable[..., Any]

VIEWER_MESSAGE = (
    "You are a viewer: you can look at everything and change nothing. An admin of the "
    "team can make you a member."
)
ADMIN_MESSAGE = "Only admins of the team may do this. Ask one of them."


def current_member(request: HttpRequest) -> Member:
    return cast(Member, request.user)


def member_required(view: View) -> View:
    """Returns the view with a check that the member is no viewer."""
    return _require(view, lambda member: member.can_work, VIEWER_MESSAGE)


def admin_required(view: View) -> View:
    """Returns the view with a check that the member is an admin."""
    return _require(view, lambda member: member.is_team_admin, ADMIN_MESSAGE)


def _require(view: View, may: Callable[[Member], bool], message: str) -> View:
    def check(request: HttpRequest, member: Any) -> None:
        if not (member.is_authenticated and may(member)):
            raise PermissionDenied(message)

    if iscoroutinefunction(view):

        @wraps(view)
        async def async_guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            check(request, await request.auser())
            return await view(request, *args, **kwargs)

        return async_guarded

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        check(request, request.user)
        return view(request, *args, **kwargs)

    return guarded
