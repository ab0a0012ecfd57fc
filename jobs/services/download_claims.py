"""The right to download a model: one task has it at a time, for one model."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from finetune_site.common.claims import RowClaim
from jobs.models import ModelDownload

# This is longer than a download may be silent: a request and the one it is sent on to
# may each take 4 s to connect and 10 s to answer, and the first bytes another 10 s.
CLAIM_SECONDS = 60
REPORT_SECONDS = 0.7
# The share of the newest measurement in the speed that is shown.
NEWEST_SPEED = 0.3

Status = ModelDownload.Status


class Claim(RowClaim):
    """The right of this task to download one model."""

    def __init__(self, pk: int, at: datetime) -> None:
        super().__init__(wanted_downloads(), pk, at)
        self._bytes_done: int | None = None
        self._speed: float | None = None

    @classmethod
    def take_next(cls) -> "Claim | None":
        """Returns the claim on the model that waits longest.

        Returns None if none waits, or one is on its way. The rows are locked:
        when two processes ask at once, the second sees the claim of the first.
        """
        now = timezone.now()
        with transaction.atomic():
            wanted = list(wanted_downloads().select_for_update())
            if not wanted or any(is_claimed(download, now) for download in wanted):
                return None
            claim = cls(wanted[0].pk, now)
            claim._speed = wanted[0].bytes_per_second
            wanted_downloads().filter(pk=claim.pk).update(claimed_at=now)
            return claim

    def report(self, bytes_done: int, message: str = "") -> None:
        """Tells about once a second how far the download is."""
        if self.age < REPORT_SECONDS:
            return
        self._measure(bytes_done, self.age)
        self.renew(bytes_done=bytes_done, bytes_per_second=self._speed, message=message)

    def _measure(self, bytes_done: int, seconds: float) -> None:
        before, self._bytes_done = self._bytes_done, bytes_done
        if before is None or bytes_done <= before:
            return
        newest = (bytes_done - before) / seconds
        known = newest if self._speed is None else self._speed
        self._speed = (1 - NEWEST_SPEED) * known + NEWEST_SPEED * newest


def wanted_downloads() -> QuerySet[ModelDownload]:
    """Returns the downloads that are not over, the longest waiting first."""
    wanted = ModelDownload.objects.filter(status=Status.DOWNLOADING)
    return wanted.order_by("asked_at", "pk")


def is_claimed(download: ModelDownload, now: datetime) -> bool:
    """Returns whether a task works on the download."""
    at = download.claimed_at
    return at is not None and now - at < timedelta(seconds=CLAIM_SECONDS)
