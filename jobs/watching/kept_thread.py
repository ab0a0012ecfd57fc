"""Threads that go on for as long as the watcher runs."""

import threading
from collections.abc import Callable

# How long the end of the process waits for a thread.
STOP_SECONDS = 1.0


class KeptThread:
    """A thread that is started again whenever it has ended."""

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self.name = name
        self.run = run
        self.thread: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self.thread is not None and self.thread.is_alive()

    def keep(self) -> None:
        """Starts the thread, unless it runs."""
        if self.is_alive:
            return
        # A daemon: a call that hangs keeps no process from its end.
        self.thread = threading.Thread(target=self.run, name=self.name, daemon=True)
        self.thread.start()

    def join(self) -> None:
        """Waits a moment for the thread's end."""
        if self.thread:
            self.thread.join(STOP_SECONDS)
