"""The watch over engines elsewhere: a thread each, so that none waits for another.

As the watcher itself it looks at states, may be killed anywhere, and does no harm
twice: rows are read in by their seq, and the far side knows a job by its id.
"""

import logging
import random
import threading
import time
from collections.abc import Iterator
from datetime import datetime

from django.db import InterfaceError, OperationalError, connections, reset_queries
from django.db.models import QuerySet
from django.utils import timezone

from finetune_site.common.errors import UserError
from finetune_site.common.wording import about, counted
from jobs.engines.base import EngineTroubleError, Report
from jobs.engines.registry import remote_names
from jobs.engines.remote import NotWantedError, RemoteEngine
from jobs.models import EngineSetting, Job
from jobs.services.ending import end_job
from jobs.services.ingestion import ingest
from jobs.services.launching import claim_next
from jobs.services.recovery import leave
from jobs.services.specs import build_spec

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.4
# An engine without a job is asked now and then, so that its page is true.
IDLE_SECONDS = 15.0
STRAYS_SECONDS = 5.0
# Its last answer is noted no more often.
NOTE_SECONDS = 5.0
# The pause after the first failure, and the longest one; each is drawn from the upper
# half, so that sites that lost one engine do not all come back at once.
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 10.0
# So long a job that is to fail or stop without its engine waits for it all the same.
FAIL_SECONDS = 120.0

Status = Job.Status


class RemoteWatches:
    """One watch for every engine elsewhere, as the rows come and go."""

    def __init__(self) -> None:
        self.threads: dict[str, threading.Thread] = {}
        self.stopped = threading.Event()

    def keep(self) -> None:
        for name in remote_names():
            thread = self.threads.get(name)
            if thread is None or not thread.is_alive():
                watch = RemoteWatch(name, self.stopped)
                # A call that hangs keeps no process from its end.
                thread = threading.Thread(target=watch.run, name=name, daemon=True)
                thread.start()
                self.threads[name] = thread

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads.values():
            thread.join(1.0)


class RemoteWatch:
    def __init__(self, name: str, stopped: threading.Event | None = None) -> None:
        self.name = name
        self.stopped = stopped or threading.Event()
        self.engine: RemoteEngine | None = None
        # Claims that this process has sent, by job.
        self.started: dict[int, datetime | None] = {}
        self.strays_at = 0.0
        self.answered_at = 0.0
        self.noted_at = 0.0
        # Since the last good answer.
        self.num_failures = 0
        self.away_since: datetime | None = None
        self.due_at = 0.0

    def run(self) -> None:
        """Until the engine is removed or the process ends."""
        try:
            while not self.stopped.is_set() and self.look_safely():
                self.stopped.wait(LOOK_SECONDS)
        finally:
            connections.close_all()

    def look_safely(self) -> bool:
        """False once there is no such engine any more."""
        try:
            return self.look()
        except (OperationalError, InterfaceError) as error:
            logger.warning(
                "Engine %s: the database does not answer: %s", self.name, error
            )
            connections.close_all()
        except Exception:
            logger.exception("The watch over the engine %s failed", self.name)
        self.stopped.wait(MAX_PAUSE_SECONDS)
        return True

    def look(self) -> bool:
        """One round, unless the engine is left alone for a while."""
        reset_queries()
        setting = EngineSetting.objects.filter(
            name=self.name, kind=EngineSetting.Kind.REMOTE
        ).first()
        if setting is None:
            return False
        if self.engine is None or is_changed(self.engine.setting, setting):
            # Another key is tried at once.
            told = self.engine.told if self.engine else {}
            self.engine = RemoteEngine(setting, told)
            self.due_at = 0.0
        if time.monotonic() < self.due_at:
            return True
        try:
            self.attend_all(self.engine)
        except EngineTroubleError as error:
            self.note_trouble(error)
        return True

    def attend_all(self, engine: RemoteEngine) -> None:
        jobs = list(self.jobs().order_by("id"))
        for job in [*jobs, *self.claim_waiting()]:
            self.attend_safely(engine, job)
        if jobs:
            self.note_answer()
        elif time.monotonic() - self.answered_at > IDLE_SECONDS:
            engine.far.get("fine_tuning/jobs", {"limit": "1"})
            self.note_answer()
        if time.monotonic() > self.strays_at:
            engine.end_strays()
            self.strays_at = time.monotonic() + STRAYS_SECONDS

    def jobs(self) -> QuerySet[Job]:
        return Job.objects.filter(engine=self.name, status__in=Job.LIVE)

    def claim_waiting(self) -> Iterator[Job]:
        # Asked first: a claim takes the database's lock.
        waiting = Job.objects.filter(engine=self.name, status=Status.QUEUED)
        if not waiting.exists():
            return
        while (job_id := claim_next(self.name)) is not None:
            yield Job.objects.get(pk=job_id)

    def attend_safely(self, engine: RemoteEngine, job: Job) -> None:
        """One job's trouble stays its own; the engine's is everybody's."""
        try:
            self.attend(engine, job)
        except (OperationalError, InterfaceError, EngineTroubleError):
            raise
        except UserError as error:
            give_up(engine, job, error.message)
        except OSError as error:
            # Such as a dataset on a disk that is away: it may pass.
            note(job, f"The dataset cannot be read ({error}). It is tried again.")
        except Exception as error:
            logger.exception("Job %s cannot be watched", job.uid)
            words = f"What the engine {self.name} reported cannot be read ({error!r})."
            give_up(engine, job, f"{words} Start a new job.")

    def attend(self, engine: RemoteEngine, job: Job) -> None:
        if not self.is_sent(engine, job):
            return
        report = engine.poll(job)
        if report.events:
            job = ingest(job, report)
        if not job.is_live:
            return
        if report.status in Job.FINAL:
            end_job(job, report.status, last_words(engine, job, report), was=Job.LIVE)
        elif report.status == Status.PAUSED and job.want == Job.Want.PAUSE:
            leave(job)
        elif report.status == Status.PAUSED and is_paused_there(engine, job):
            pause(job, f"It was paused on the engine {self.name}.")
        else:
            engine.control(job)
            show(engine, job, report)

    def is_sent(self, engine: RemoteEngine, job: Job) -> bool:
        """Whether the far side has it, after what had to be done for that."""
        if job.far_uid and job.status != Status.STARTING:
            return True
        if self.started.get(job.pk, False) == job.claimed_at:
            return True
        if job.want == Job.Want.RUN:
            try:
                engine.start(job, build_spec(job))
            except NotWantedError:
                return False
        elif engine.find(job) is None:
            # It never left, and nobody wants it to.
            leave(job)
            return False
        self.started[job.pk] = job.claimed_at
        return True

    # ----- whether it answers

    def note_answer(self) -> None:
        self.answered_at = time.monotonic()
        self.num_failures = 0
        self.away_since = None
        if self.answered_at - self.noted_at < NOTE_SECONDS and self.noted_at:
            return
        self.noted_at = self.answered_at
        rows = EngineSetting.objects.filter(name=self.name)
        rows.update(trouble="", last_answer_at=timezone.now())

    def note_trouble(self, error: EngineTroubleError) -> None:
        self.num_failures += 1
        self.away_since = self.away_since or timezone.now()
        # The next good answer is noted at once.
        self.noted_at = 0.0
        seconds = max(pause_seconds(self.num_failures), error.retry_after)
        self.due_at = time.monotonic() + seconds
        rows = EngineSetting.objects.filter(name=self.name)
        rows.exclude(trouble=error.message).update(trouble=error.message)
        for job in self.jobs():
            self.tell(job, error)

    def tell(self, job: Job, error: EngineTroubleError) -> None:
        """Wait or fail, as its owner chose; a job that was not sent may just leave, and
        one that was to stop waits no longer than one that is to fail.
        """
        if not job.far_uid and job.want != Job.Want.RUN:
            leave(job)
            return
        since = self.away_since or timezone.now()
        # A job that comes later waits its own time.
        begun = max(since, job.claimed_at or since)
        waited = (timezone.now() - begun).total_seconds()
        if waited > FAIL_SECONDS and end_without_engine(job, error, waited):
            return
        note(
            job,
            f"{error.message} Tried {counted(self.num_failures, 'time')} since "
            f"{timezone.localtime(since):%H:%M:%S}. {outlook(job)}",
        )


def end_without_engine(job: Job, error: EngineTroubleError, waited: float) -> bool:
    """A job that waits no longer, whose far job `RemoteEngine.end_strays` ends."""
    if job.want == Job.Want.STOP:
        words = (
            f"{error.message} It is stopped there once it answers; what it learned "
            "since it was last heard of is not shown here."
        )
        return end_job(job, Status.CANCELLED, words, was=Job.LIVE)
    if job.when_engine_away != Job.WhenEngineAway.FAIL:
        return False
    words = (
        f"{error.message} It was tried again and again for {about(waited)}, and this "
        "job was to fail then."
    )
    return end_job(job, Status.FAILED, words, was=Job.LIVE)


def outlook(job: Job) -> str:
    """What becomes of a job whose engine is away."""
    if job.want == Job.Want.STOP:
        return (
            f"After {about(FAIL_SECONDS)} without an answer the job counts as "
            "cancelled, and it is stopped there once the engine answers."
        )
    if job.when_engine_away == Job.WhenEngineAway.FAIL:
        return f"After {about(FAIL_SECONDS)} without an answer the job fails."
    if job.want == Job.Want.PAUSE:
        return "The job is paused there once the engine answers."
    return "It is tried again and again, and the job goes on by itself."


def is_changed(old: EngineSetting, new: EngineSetting) -> bool:
    names = ("url", "sealed_key", "allow_private", "jobs_at_once")
    return any(getattr(old, name) != getattr(new, name) for name in names)


def pause_seconds(num_failures: int) -> float:
    longest = min(FIRST_PAUSE_SECONDS * 2 ** min(num_failures, 10), MAX_PAUSE_SECONDS)
    return random.uniform(longest / 2, longest)  # noqa: S311  no secret


def last_words(engine: RemoteEngine, job: Job, report: Report) -> str:
    """Of a far job that ended without an event that says so: killed, or not begun."""
    if report.status == Status.CANCELLED and job.want == Job.Want.STOP:
        return ""
    word = Status(report.status).label.lower()
    words = f"The engine {engine.name} ended this job: it is {word} there."
    return f"{words} {report.message}".strip()


def is_paused_there(engine: RemoteEngine, job: Job) -> bool:
    """By somebody else: a pause of ours that was taken back is `control`'s to undo."""
    told = engine.told.get(job.uid)
    return job.want == Job.Want.RUN and (told is None or told.want == Job.Want.RUN)


def pause(job: Job, message: str) -> None:
    """Until somebody here lets it go on."""
    live = Job.objects.filter(pk=job.pk, status__in=Job.LIVE, want=Job.Want.RUN)
    live.update(
        status=Status.PAUSED,
        want=Job.Want.PAUSE,
        claimed_at=None,
        status_message=message,
    )


def show(engine: RemoteEngine, job: Job, report: Report) -> None:
    """What the far side says of the job beside its events."""
    if report.total_steps and report.total_steps != job.total_steps:
        Job.objects.filter(pk=job.pk).update(total_steps=report.total_steps)
    if report.launched and job.status == Status.STARTING and job.started_at:
        # A trainer that goes on says nothing until it is past its job's last step.
        starting = Job.objects.filter(pk=job.pk, status=Status.STARTING)
        starting.update(status=Status.RUNNING)
    there = f"The engine {engine.name} has the job"
    waiting = {
        Status.VALIDATING: f"{there} and counts its tokens.",
        Status.QUEUED: f"{there}. It waits there for its turn.",
    }
    note(job, waiting.get(Status(report.status), report.message))


def note(job: Job, words: str) -> None:
    words = words.replace("\0", "")
    if job.status_message == words:
        return
    live = Job.objects.filter(pk=job.pk, status__in=Job.LIVE)
    live.update(status_message=words)


def give_up(engine: RemoteEngine, job: Job, message: str) -> None:
    """The far job ends too; if it cannot now, it does once it can be asked."""
    end_job(job, Status.FAILED, message, was=Job.LIVE)
    engine.end(job, force=True)
