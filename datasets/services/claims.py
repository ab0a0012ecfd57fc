"""The right to import a version, so that of several tasks only one does."""

import time
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone

from datasets.models import DatasetVersion

CLAIM_SECONDS = 15
PROGRESS_SECONDS = 0.5


class ClaimLostError(Exception):
    """Somebody else imports this version now, or it was deleted."""


class Claim:
    """The right to import a version, kept by renewing it.

    `claimed_at` is the token: an update that finds another value has lost the claim.
    """

    def __init__(self, pk: int, at: datetime) -> None:
        self.pk = pk
        self.at = at
        self._renewed = time.monotonic()

    @classmethod
    def take(cls, pk: int) -> "Claim | None":
        now = timezone.now()
        free = unclaimed(now).filter(pk=pk)
        return cls(pk, now) if free.update(claimed_at=now, bytes_done=0) == 1 else None

    def report(self, bytes_done: int) -> None:
        if time.monotonic() - self._renewed < PROGRESS_SECONDS:
            return
        now = timezone.now()
        self.update(claimed_at=now, bytes_done=bytes_done)
        self.at, self._renewed = now, time.monotonic()

    def update(self, **fields: Any) -> None:
        mine = DatasetVersion.objects.filter(
            pk=self.pk, status=DatasetVersion.Status.IMPORTING, claimed_at=self.at
        )
        if mine.update(**fields) != 1:
            raise ClaimLostError


def unclaimed(now: datetime) -> QuerySet[DatasetVersion]:
    lapsed = now - timedelta(seconds=CLAIM_SECONDS)
    return DatasetVersion.objects.filter(
        Q(claimed_at=None) | Q(claimed_at__lt=lapsed),
        status=DatasetVersion.Status.IMPORTING,
    )
