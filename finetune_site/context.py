"""Gives every page the running jobs for its navigation."""

from collections.abc import Callable
from functools import cache
from typing import Any

from django.http import HttpRequest

from jobs.models import Job


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Returns functions, so that a page without navigation costs no query, and any
    other page one query.
    """
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    running = _running_jobs()
    return {
        "nav_running_job": lambda: next(iter(running()), None),
        "nav_num_running": lambda: len(running()),
    }


def _running_jobs() -> Callable[[], list[Job]]:
    fields = ("name", "status", "step", "total_steps", "seconds_per_step")
    jobs = Job.objects.filter(status=Job.Status.RUNNING).only(*fields).order_by("id")
    return cache(lambda: list(jobs[:20]))
