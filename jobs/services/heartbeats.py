"""Signs of life of the processes."""

import time

from django.utils import timezone

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
