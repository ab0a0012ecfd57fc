"""Which processes of the site are alive, for /healthz and for `up`."""

import time
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import Error as AnyDatabaseError
from django.db import close_old_connections
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from datasets.selectors import last_import_activity
from jobs.models import Heartbeat, Job
from jobs.serving import client

STARTING_SECONDS = 30.0
STARTED_AT = time.monotonic()


@require_safe
@login_not_required
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """200 when all are alive, else 503, with one entry a process."""
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


def newest_heartbeats() -> dict[str, datetime] | None:
    """For `up`, whose connection no request closes."""
    close_old_connections()
    return _newest_heartbeats()


def _newest_heartbeats() -> dict[str, datetime] | None:
    """None when the database does not answer."""
    try:
        beats = dict(Heartbeat.objects.values_list("name", "at"))
        importing_at = last_import_activity()
    except AnyDatabaseError:
        return None
    # While it imports, the worker answers nothing, and is alive all the same.
    if importing_at is not None:
        beats["worker"] = max(importing_at, beats.get("worker", importing_at))
    return beats


def _heartbeats() -> dict[str, dict[str, Any]]:
    beats = _newest_heartbeats() or {}
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
