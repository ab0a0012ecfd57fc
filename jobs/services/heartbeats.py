"""Signs of life of the processes."""

from django.utils import timezone

from jobs.models import Heartbeat


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
