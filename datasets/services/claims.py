"""The right to import a version."""

from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone

from datasets.models import DatasetVersion
from finetune_site.common.claims import RowClaim

CLAIM_SECONDS = 15
PROGRESS_SECONDS = 0.5


class Claim(RowClaim):
    def __init__(self, pk: int, at: datetime) -> None:
        super().__init__(importing(), pk, at)

    @classmethod
    def take(cls, pk: int) -> "Claim | None":
        now = timezone.now()
        free = unclaimed(now).filter(pk=pk)
        return cls(pk, now) if free.update(claimed_at=now, bytes_done=0) == 1 else None

    def report(self, bytes_done: int) -> None:
        if self.age >= PROGRESS_SECONDS:
            self.renew(bytes_done=bytes_done)


def importing() -> QuerySet[DatasetVersion]:
    return DatasetVersion.objects.filter(status=DatasetVersion.Status.IMPORTING)


def unclaimed(now: datetime) -> QuerySet[DatasetVersion]:
    lapsed = now - timedelta(seconds=CLAIM_SECONDS)
    return importing().filter(Q(claimed_at=None) | Q(claimed_at__lt=lapsed))
