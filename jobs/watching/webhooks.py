"""Tells webhooks in a thread of its own, for as long as the watcher runs.

A receiver that does not answer takes seconds of it, again and again. That would delay
the watcher's loop, or a worker. One delivery is under way at a time.
"""

import logging
import threading

from django.db import InterfaceError, OperationalError, connections, reset_queries

from jobs.services.deliveries import deliver_due, lay_deliveries
from jobs.watching.kept_thread import KeptThread

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
# The pause after a failure of this site's own.
FAILURE_SECONDS = 10.0


class WebhookThread:
    """The thread that delivers events to webhooks."""

    def __init__(self) -> None:
        self.thread = KeptThread("webhooks", self.run)
        self.stopped = threading.Event()

    def keep(self) -> None:
        """Starts the thread, unless it runs."""
        self.thread.keep()

    def stop(self) -> None:
        """Ends the thread."""
        self.stopped.set()
        self.thread.join()

    def run(self) -> None:
        """Delivers what is due until the process ends."""
        try:
            while not self.stopped.is_set():
                self.stopped.wait(self.look_safely())
        finally:
            connections.close_all()

    def look_safely(self) -> float:
        """Delivers what is due now, and returns the seconds to the next look."""
        reset_queries()
        try:
            lay_deliveries()
            return 0 if deliver_due() else LOOK_SECONDS
        except (OperationalError, InterfaceError) as error:
            logger.warning("Webhooks: the database does not answer: %s", error)
            connections.close_all()
        except Exception:
            logger.exception("Webhooks cannot be told")
        return FAILURE_SECONDS
