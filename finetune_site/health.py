"""Answers /healthz: which processes of the site are alive."""

import time
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import Error as AnyDatabaseError
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from jobs.models import Job
from jobs.services.heartbeats import newest_heartbeats
from jobs.serving import client

STARTING_SECONDS = 30.0
STARTED_AT = time.monotonic()


@require_safe
@login_not_required
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """Answers 200 when all processes are alive, else 503, with an entry for each."""
    processes = {"web": {"alive": True}, **_heartbeats(), **_model_server()}
    all_alive = all(entry["alive"] for entry in processes.values())
    starting = time.monotonic() - STARTED_AT < STARTING_SECONDS
    status = "ok" if all_alive else "starting" if starting else "degraded"
    body = {
        "status": status,
        "processes": processes,
        "running_jobs": _count_running_jobs(),
    }
    response = JsonResponse(body, status=200 if all_alive else 503)
    # A 503 is the answer here, not a fault of the view that the log should report.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def _heartbeats() -> dict[str, dict[str, Any]]:
    beats = newest_heartbeats() or {}
    return {name: _age_entry(beats.get(name)) for name in ("worker", "watcher")}


def _age_entry(at: datetime | None) -> dict[str, Any]:
    if at is None:
        return {"alive": False, "seconds_ago": None}
    age = (timezone.now() - at).total_seconds()
    alive = age < settings.HEARTBEAT_STALE_SECONDS
    return {"alive": alive, "seconds_ago": round(max(age, 0.0), 1)}


def _model_server() -> dict[str, dict[str, Any]]:
    return {
        "model_server": {
            "alive": client.is_alive(client.socket_path(settings.DATA_DIR))
        }
    }


def _count_running_jobs() -> int | None:
    try:
        return Job.objects.filter(status=Job.Status.RUNNING).count()
    except AnyDatabaseError:
        return None
