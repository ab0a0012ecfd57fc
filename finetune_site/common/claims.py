"""Gives one of several background tasks the right to work on a row.

Tasks are delivered at least once, possibly twice at a time, and may be killed.
Therefore the right lapses unless it is renewed.
"""

import time
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone


class ClaimLostError(Exception):
    """Somebody else works on the row now, or it is no longer wanted."""


class RowClaim:
    """The right to work on one row, as long as `claimed_at` has the value set with it.

    An update that finds another value has lost the right.
    """

    def __init__(self, rows: QuerySet[Any], pk: int, at: datetime) -> None:
        # The rows that still need this work.
        self.rows = rows
        self.pk = pk
        self.at = at
        self._renewed = time.monotonic()

    @property
    def age(self) -> float:
        """Returns the seconds since the right was taken or renewed."""
        return time.monotonic() - self._renewed

    def renew(self, **fields: Any) -> None:
        now = timezone.now()
        self.update(claimed_at=now, **fields)
        self.at, self._renewed = now, time.monotonic()

    def update(self, **fields: Any) -> None:
        mine = self.rows.filter(pk=self.pk, claimed_at=self.at)
        if mine.update(**fields) != 1:
            raise ClaimLostError
