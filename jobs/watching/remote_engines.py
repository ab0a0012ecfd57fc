"""Looks after remote engines: a thread for each, so that none waits for another.

Like the watcher itself, a thread looks at states, may be killed anywhere, and does no
harm twice: rows are read in by their seq, and the far side knows a job by its id.
"""

import logging
import threading
import time
from collections.abc import Iterator
from functools import partial

from django.db import InterfaceError, OperationalError, connections, reset_queries
from django.db.models import QuerySet

from jobs.engines.base import EngineTroubleError
from jobs.engines.registry import remote_names
from jobs.engines.remote import RemoteEngine
from jobs.models import EngineSetting, Job
from jobs.services.launching import claim_next
from jobs.watching.contact import Contact
from jobs.watching.kept_thread import KeptThread
from jobs.watching.remote_jobs import RemoteJobs, wait_for_engine

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.4
STRAYS_SECONDS = 5.0
# The pause after a failure of this site's own.
FAILURE_SECONDS = 10.0
# Settings whose change makes another engine of it.
ENGINE_FIELDS = ("url", "sealed_key", "allow_private", "jobs_at_once")


class EngineThreads:
    """A thread for each remote engine, as their rows come and go."""

    def __init__(self) -> None:
        self.threads: dict[str, KeptThread] = {}
        self.stopped = threading.Event()

    def keep(self) -> None:
        """Starts the threads that are missing."""
        for name in remote_names():
            if name not in self.threads:
                look = partial(self._look_after, name)
                self.threads[name] = KeptThread(name, look)
            self.threads[name].keep()

    def stop(self) -> None:
        """Ends all threads."""
        self.stopped.set()
        for thread in self.threads.values():
            thread.join()

    def _look_after(self, name: str) -> None:
        # A loop of its own for each start: an engine may come back as another one.
        EngineLoop(name, self.stopped).run()


class EngineLoop:
    """Looks at one remote engine and its jobs, again and again."""

    def __init__(self, name: str, stopped: threading.Event) -> None:
        self.name = name
        self.stopped = stopped
        self.engine: RemoteEngine | None = None
        self.contact = Contact(name)
        self.remote_jobs = RemoteJobs()
        self.strays_at = 0.0

    def run(self) -> None:
        """Looks until the engine is removed or the process ends."""
        try:
            while not self.stopped.is_set() and self.look_safely():
                self.stopped.wait(LOOK_SECONDS)
        finally:
            connections.close_all()

    def look_safely(self) -> bool:
        """Looks once, whatever goes wrong. Returns False if the engine was removed."""
        try:
            return self.look()
        except (OperationalError, InterfaceError) as error:
            logger.warning(
                "Engine %s: the database does not answer: %s", self.name, error
            )
            connections.close_all()
        except Exception:
            logger.exception("The watch over the engine %s failed", self.name)
        self.stopped.wait(FAILURE_SECONDS)
        return True

    def look(self) -> bool:
        """Looks once, unless the engine is left alone for a while.

        Returns False if the engine was removed.
        """
        reset_queries()
        setting = EngineSetting.objects.filter(
            name=self.name, kind=EngineSetting.Kind.REMOTE
        ).first()
        if setting is None:
            return False
        engine = self._engine_of(setting)
        if not self.contact.is_due:
            return True
        try:
            self._attend_all(engine)
        except EngineTroubleError as error:
            self.contact.note_trouble(error)
            for job in self._live_jobs():
                wait_for_engine(job, error, self.contact)
        return True

    def _engine_of(self, setting: EngineSetting) -> RemoteEngine:
        """Returns the engine; after a change of its settings it is tried at once."""
        if self.engine is None or is_changed(self.engine.setting, setting):
            told = self.engine.told if self.engine else {}
            self.engine = RemoteEngine(setting, told)
            self.contact.forgive()
        return self.engine

    def _attend_all(self, engine: RemoteEngine) -> None:
        jobs = list(self._live_jobs().order_by("id"))
        for job in [*jobs, *self._claim_waiting()]:
            self.remote_jobs.attend_safely(engine, job)
        if jobs:
            self.contact.note_answer()
        elif self.contact.is_idle:
            engine.far.get("fine_tuning/jobs", {"limit": "1"})
            self.contact.note_answer()
        if time.monotonic() > self.strays_at:
            engine.end_strays()
            self.strays_at = time.monotonic() + STRAYS_SECONDS

    def _live_jobs(self) -> QuerySet[Job]:
        return Job.objects.filter(engine=self.name, status__in=Job.LIVE)

    def _claim_waiting(self) -> Iterator[Job]:
        # Asked first: a claim takes the database's lock.
        waiting = Job.objects.filter(engine=self.name, status=Job.Status.QUEUED)
        if not waiting.exists():
            return
        while (job_id := claim_next(self.name)) is not None:
            yield Job.objects.get(pk=job_id)


def is_changed(old: EngineSetting, new: EngineSetting) -> bool:
    """Returns whether two settings of one engine make different engines."""
    return any(getattr(old, name) != getattr(new, name) for name in ENGINE_FIELDS)
