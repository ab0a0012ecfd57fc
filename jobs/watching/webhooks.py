"""Tells webhooks in a thread of its own, for as long as the watcher runs.

A receiver that does not answer takes seconds of it, again and again. So it has neither
the watcher's loop nor a worker, and one delivery is under way at a time.
"""

import logging
import threading

from django.db import InterfaceError, OperationalError, connections, reset_queries

from jobs.services.deliveries import deliver_due, lay_deliveries

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
# After a failure of its own.
PAUSE_SECONDS = 10.0


class WebhookWatch:
    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.stopped = threading.Event()

    def keep(self) -> None:
        if self.thread is None or not self.thread.is_alive():
            # A call that hangs keeps no process from its end.
            self.thread = threading.Thread(
                target=self.run, name="webhooks", daemon=True
            )
            self.thread.start()

    def stop(self) -> None:
        self.stopped.set()
        if self.thread:
            self.thread.join(1.0)

    def run(self) -> None:
        try:
            while not self.stopped.is_set():
                self.stopped.wait(self.look_safely())
        finally:
            connections.close_all()

    def look_safely(self) -> float:
        """Seconds to the next look."""
        reset_queries()
        try:
            lay_deliveries()
            return 0 if deliver_due() else LOOK_SECONDS
        except (OperationalError, InterfaceError) as error:
            logger.warning("Webhooks: the database does not answer: %s", error)
            connections.close_all()
        except Exception:
            logger.exception("Webhooks cannot be told")
        return PAUSE_SECONDS
