"""The right to import a version, which one process has at a time."""

from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone

from datasets.models import DatasetVersion
from finetune_site.common.claims import RowClaim

CLAIM_SECONDS = 15
PROGRESS_SECONDS = 0.5


class Claim(RowClaim):
    """The right of this process to import one version."""

    def __init__(self, pk: int, at: datetime) -> None:
        super().__init__(importing(), pk, at)

    @classmethod
    def take(cls, pk: int) -> "Claim | None":
        """Returns the claim on a version, or None if somebody else has it."""
        now = timezone.now()
        free = unclaimed(now).filter(pk=pk)
        return cls(pk, now) if free.update(claimed_at=now, bytes_done=0) == 1 else None

    def report(self, bytes_done: int) -> None:
        """Renews the claim and tells how many bytes are read, now and then."""
        if self.age >= PROGRESS_SECONDS:
            self.renew(bytes_done=bytes_done)


def importing() -> QuerySet[DatasetVersion]:
    """Returns the versions whose import is not over."""
    return DatasetVersion.objects.filter(status=DatasetVersion.Status.IMPORTING)


def unclaimed(now: datetime) -> QuerySet[DatasetVersion]:
    """Returns the versions whose import nobody works on."""
    lapsed = now - timedelta(seconds=CLAIM_SECONDS)
    return importing().filter(Q(claimed_at=None) | Q(claimed_at__lt=lapsed))
