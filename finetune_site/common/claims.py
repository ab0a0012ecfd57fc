"""Gives one of several background tasks the right to work on a row.

Tasks are delivered at least once, possibly twice at a time, and may be killed.
Therefore the right lapses unless it is renewed.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from django.db import DatabaseError, connections
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
        self._lock = threading.Lock()

    @property
    def age(self) -> float:
        """Returns the seconds since the right was taken or renewed."""
        return time.monotonic() - self._renewed

    def renew(self, **fields: Any) -> None:
        now = timezone.now()
        with self._lock:
            self._update(claimed_at=now, **fields)
            self.at, self._renewed = now, time.monotonic()

    def update(self, **fields: Any) -> None:
        with self._lock:
            self._update(**fields)

    def _update(self, **fields: Any) -> None:
        mine = self.rows.filter(pk=self.pk, claimed_at=self.at)
        if mine.update(**fields) != 1:
            raise ClaimLostError

    @contextmanager
    def held(self, every: float) -> Iterator[None]:
        """Renews the right every so many seconds, however long a piece of work takes.

        Whoever lost it all the same learns so at the next update.
        """
        done = threading.Event()
        thread = threading.Thread(target=self._keep, args=[every, done], daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _keep(self, every: float, done: threading.Event) -> None:
        try:
            while not done.wait(every):
                # A database that is away for a moment is asked again.
                with suppress(DatabaseError):
                    self.renew()
        except ClaimLostError:
            pass
        finally:
            connections.close_all()
