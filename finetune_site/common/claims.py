"""The right to work on a row in the background, so that of several tasks only one does.

Tasks are delivered at least once, possibly twice at a time, and may be killed: the
right lapses unless it is renewed.
"""

import time
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone


class ClaimLostError(Exception):
    """Somebody else works on the row now, or it is no longer wanted."""


class RowClaim:
    """`claimed_at` is the token: an update that finds another value has lost it."""

    def __init__(self, rows: QuerySet[Any], pk: int, at: datetime) -> None:
        # Those that work is wanted on.
        self.rows = rows
        self.pk = pk
        self.at = at
        self._renewed = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since it was taken or renewed."""
        return time.monotonic() - self._renewed

    def renew(self, **fields: Any) -> None:
        now = timezone.now()
        self.update(claimed_at=now, **fields)
        self.at, self._renewed = now, time.monotonic()

    def update(self, **fields: Any) -> None:
        mine = self.rows.filter(pk=self.pk, claimed_at=self.at)
        if mine.update(**fields) != 1:
            raise ClaimLostError
