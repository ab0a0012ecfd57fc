"""Finds who sends a request by its headers alone, before any of its body arrives."""

from importlib import import_module
from io import BytesIO
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.core.handlers.asgi import ASGIRequest
from django.db import connections

from finetune_site.team.models import Member
from finetune_site.team.selectors import find_key


def may_send_files(scope: Any, *, with_key: bool) -> bool:
    """Returns whether its API key or its session is that of a member who may work."""
    request = ASGIRequest(scope, BytesIO())
    try:
        member = _by_key(request) if with_key else _by_session(request)
    finally:
        # This runs outside of Django's handling of requests, which would do it.
        connections.close_all()
    return member is not None and member.can_work


def _by_key(request: ASGIRequest) -> Member | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    key = find_key(token) if kind.lower() == "bearer" else None
    return key.member if key else None


def _by_session(request: ASGIRequest) -> Member | None:
    sessions = import_module(settings.SESSION_ENGINE)
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    request.session = sessions.SessionStore(key)
    user = get_user(request)
    return user if isinstance(user, Member) else None
