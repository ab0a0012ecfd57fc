"""Signs of life of the processes."""

import time
from datetime import datetime

from django.db import Error as AnyDatabaseError
from django.utils import timezone

from datasets.selectors import last_import_activity
from jobs.models import Heartbeat

PULSE_SECONDS = 5.0


def forget_heartbeats() -> None:
    """Those of an earlier start say nothing about the processes of this one."""
    Heartbeat.objects.all().delete()


def beat(name: str) -> None:
    """One statement, whether the row is there or not."""
    Heartbeat.objects.bulk_create(
        [Heartbeat(name=name, at=timezone.now())],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["at"],
    )


def newest_heartbeats() -> dict[str, datetime] | None:
    """Returns when each process was last alive; None: the database does not answer."""
    try:
        beats = dict(Heartbeat.objects.values_list("name", "at"))
        importing_at = last_import_activity()
    except AnyDatabaseError:
        return None
    # While it imports, the worker answers nothing, and is alive all the same.
    if importing_at is not None:
        beats["worker"] = max(importing_at, beats.get("worker", importing_at))
    return beats


class Pulse:
    """Beats for a process that is busy for long; call it as often as it gets on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last = time.monotonic()

    def __call__(self, *_: object) -> None:
        if time.monotonic() - self.last < PULSE_SECONDS:
            return
        self.last = time.monotonic()
        beat(self.name)
