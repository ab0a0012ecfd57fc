"""The watcher: one loop that compares what should be with what is.

It looks at the state of rows and run folders, never at messages, and keeps nothing in
memory that matters: it may be killed anywhere, and two of them do no harm. Each remote
engine has a thread, so that a slow one delays nobody (see remote_engines), and the
webhooks have one together (see webhooks).
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from django.db import InterfaceError, OperationalError, connections, reset_queries
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.tasks import async_task

from datasets.services.imports import requeue_stale_imports
from finetune_site.common.errors import UserError
from finetune_site.team.one_deed import forget_old_forms
from jobs.engines.base import Engine
from jobs.engines.registry import LOCAL, get_engine, remote_names
from jobs.models import Job
from jobs.new_job.preparation import enqueue_preparation, unclaimed, unimported
from jobs.services.downloads import requeue_stale_downloads
from jobs.services.ending import end_job
from jobs.services.heartbeats import beat
from jobs.services.ingestion import ingest
from jobs.services.launching import claim_next
from jobs.services.model_trials import ask_for_trials
from jobs.services.recovery import recover
from jobs.watching.job_rows import mark_resumed
from jobs.watching.job_words import unreadable_report
from jobs.watching.remote_engines import EngineThreads
from jobs.watching.webhooks import WebhookThread

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
BEAT_SECONDS = 2.0
WORKER_BEAT_SECONDS = 10.0
SWEEP_SECONDS = 5.0
THREADS_SECONDS = 1.0
MAX_BACK_OFF_SECONDS = 5.0
# A new job's preparation is on its way for this long before it is asked for again.
PREPARATION_SECONDS = 10.0

Status = Job.Status


class Watcher:
    """Looks at the jobs of this machine, and keeps the threads for everything else."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.complaints: set[tuple[int, str]] = set()
        self.remotes = EngineThreads()
        self.webhooks = WebhookThread()
        self.chores = [
            Chore(BEAT_SECONDS, lambda: beat("watcher")),
            Chore(WORKER_BEAT_SECONDS, ask_for_worker_beat),
            Chore(SWEEP_SECONDS, sweep),
        ]

    def stop(self) -> None:
        """Ends `run` after the present look."""
        self.stopped.set()

    def run(self) -> None:
        """Looks until stopped, also while the database is away."""
        self.chores.append(Chore(THREADS_SECONDS, self.remotes.keep))
        self.chores.append(Chore(THREADS_SECONDS, self.webhooks.keep))
        try:
            self._run()
        finally:
            self.remotes.stop()
            self.webhooks.stop()

    def _run(self) -> None:
        failures = 0
        while not self.stopped.is_set():
            try:
                self.look()
            except Exception as error:
                failures += 1
                if failures == 1:
                    complain(error)
                connections.close_all()
            else:
                if failures:
                    logger.info("The watcher works again")
                failures = 0
            back_off = min(failures * 0.5, MAX_BACK_OFF_SECONDS)
            self.stopped.wait(LOOK_SECONDS + back_off)

    def look(self) -> None:
        """Does everything that is due now on this machine."""
        reset_queries()
        found = Job.objects.filter(status__in=[Status.QUEUED, *Job.LIVE])
        jobs = list(found.exclude(engine__in=remote_names()).order_by("id"))
        for job in jobs:
            if job.is_live:
                self.attend_safely(job)
        claim_waiting(jobs)
        for chore in self.chores:
            chore.do_if_due()

    def attend_safely(self, job: Job) -> None:
        """Attends to a job, and ends it if it cannot go on.

        Raises only what concerns all jobs: the database's trouble.
        """
        try:
            attend(job)
        except (OperationalError, InterfaceError):
            raise
        except UserError as error:
            give_up(job, error.message)
        except OSError as error:
            # For example a full disk: it may pass.
            self.complain_once(job, error)
        except Exception as error:
            logger.exception("Job %s cannot be watched", job.uid)
            give_up(job, unreadable_report("the trainer", error))

    def complain_once(self, job: Job, error: Exception) -> None:
        """Logs a job's trouble, unless the same was logged before."""
        key = (job.pk, str(error))
        if key not in self.complaints:
            self.complaints.add(key)
            logger.warning("Job %s: %s", job.uid, error)


def complain(error: Exception) -> None:
    """Logs why a whole look failed."""
    if isinstance(error, OperationalError | InterfaceError):
        logger.warning("The database does not answer: %s", error)
    else:
        logger.error("The watcher cannot work", exc_info=error)


class Chore:
    """Something done every few seconds, and at the start."""

    def __init__(self, seconds: float, do: Callable[[], None]) -> None:
        self.seconds = seconds
        self.do = do
        self.due_at = 0.0

    def do_if_due(self) -> None:
        """Does it, if its time has come."""
        if time.monotonic() < self.due_at:
            return
        # Set before it is done: a chore that fails keeps no other from its turn.
        self.due_at = time.monotonic() + self.seconds
        self.do()


def attend(job: Job) -> None:
    """Reads what a live job's trainer did, and sees that it does what people want.

    Raises UserError if the job cannot go on.
    """
    engine = get_engine(job.engine)
    report = engine.poll(job)
    if report.events or report.offset != job.events_offset:
        job = ingest(job, report)
    if not job.is_live:
        return
    if report.alive:
        guide(engine, job)
        if report.launched:
            mark_resumed(job)
    elif recover(job, launched=report.launched):
        async_task("jobs.tasks.launch_job", job.pk)


def guide(engine: Engine, job: Job) -> None:
    """Tells a living trainer what people want, and makes it obey."""
    engine.control(job)
    if job.want != Job.Want.RUN:
        engine.enforce(job)


def give_up(job: Job, message: str) -> None:
    """Ends a job's trainer, then the job.

    In this order, because nobody looks after the trainer of a job that has failed.
    """
    # The engine itself may be what is missing.
    with suppress(UserError):
        get_engine(job.engine).end(job, force=True)
    end_job(job, Status.FAILED, message, was=Job.LIVE)


def claim_waiting(jobs: list[Job]) -> None:
    """Claims queued jobs for every engine with room; background tasks launch them."""
    for name in {job.engine for job in jobs if job.status == Status.QUEUED}:
        num_live = sum(job.engine == name and job.is_live for job in jobs)
        try:
            has_room = num_live < get_engine(name).jobs_at_once
        except UserError as error:
            # The engine's row was deleted, but not by this site's own command.
            fail_waiting(name, error.message)
            continue
        while has_room and (job_id := claim_next(name)) is not None:
            async_task("jobs.tasks.launch_job", job_id)


def fail_waiting(engine: str, message: str) -> None:
    """Ends the jobs that wait for an engine that is no more."""
    for job in Job.objects.filter(engine=engine, status=Status.QUEUED):
        end_job(job, Status.FAILED, message, was={Status.QUEUED})


def nothing_waits() -> bool:
    """Returns whether the worker has taken all tasks: asking then piles up nothing."""
    return int(get_broker().queue_size()) == 0


def ask_for_worker_beat() -> None:
    """Queues a task by which the worker shows that it works."""
    if nothing_waits():
        async_task("jobs.tasks.beat_worker", save=False)


def sweep() -> None:
    """Asks again for background work that died with its worker, and ends strays."""
    # This ends the strays of all queues of this machine.
    LOCAL.end_strays()
    requeue_stale_imports()
    requeue_stale_downloads()
    ask_for_trials()
    forget_old_forms()
    young = timezone.now() - timedelta(seconds=PREPARATION_SECONDS)
    lost = Job.objects.filter(
        unclaimed(), status=Status.VALIDATING, created_at__lt=young
    ).exclude(unimported())
    job_ids = list(lost.values_list("pk", flat=True))
    if job_ids and nothing_waits():
        for job_id in job_ids:
            enqueue_preparation(job_id)
