"""Writes and reads the processes' signs of life."""

import time
from datetime import datetime

from django.db import Error as AnyDatabaseError
from django.utils import timezone

from datasets.selectors import last_import_activity
from jobs.models import Heartbeat

PULSE_SECONDS = 5.0


def forget_heartbeats() -> None:
    """Deletes the heartbeats of an earlier start, whose processes are gone."""
    Heartbeat.objects.all().delete()


def beat(name: str) -> None:
    """Notes that a process is alive, in one statement."""
    Heartbeat.objects.bulk_create(
        [Heartbeat(name=name, at=timezone.now())],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["at"],
    )


def newest_heartbeats() -> dict[str, datetime] | None:
    """Returns when each process was last alive, or None without a database."""
    try:
        beats = dict(Heartbeat.objects.values_list("name", "at"))
        importing_at = last_import_activity()
    except AnyDatabaseError:
        return None
    # A worker that imports does not beat, but its claims show that it is alive.
    if importing_at is not None:
        beats["worker"] = max(importing_at, beats.get("worker", importing_at))
    return beats


class Pulse:
    """Beats for a process that is busy for long. It may be called very often."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last = time.monotonic()

    def __call__(self, *_: object) -> None:
        if time.monotonic() - self.last < PULSE_SECONDS:
            return
        self.last = time.monotonic()
        beat(self.name)
