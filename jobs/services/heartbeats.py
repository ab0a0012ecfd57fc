"""Signs of life of the processes."""

from django.utils import timezone

from jobs.models import Heartbeat


def beat(name: str) -> None:
    """One statement, whether the row is there or not."""
    Heartbeat.objects.bulk_create(
        [Heartbeat(name=name, at=timezone.now())],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["at"],
    )
