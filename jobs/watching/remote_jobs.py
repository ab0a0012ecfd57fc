"""Attends to the live jobs of a remote engine: sends, reads, tells, ends them."""

import logging
from datetime import datetime

from django.db import InterfaceError, OperationalError
from django.utils import timezone

from finetune_site.common.errors import UserError
from jobs.engines.base import EngineTroubleError, Report
from jobs.engines.remote import RemoteEngine
from jobs.engines.sending import NotWantedError
from jobs.models import Job
from jobs.services.ending import end_job
from jobs.services.ingestion import ingest
from jobs.services.recovery import leave
from jobs.services.specs import build_spec
from jobs.watching.contact import Contact
from jobs.watching.job_rows import mark_paused, mark_resumed, note
from jobs.watching.job_words import (
    FAIL_SECONDS,
    cancelled_while_away,
    ended_there,
    failed_while_away,
    how_it_stands,
    still_trying,
    unreadable_report,
)

logger = logging.getLogger(__name__)

Status = Job.Status


class RemoteJobs:
    """Brings the live jobs of one engine on, one job and one look at a time."""

    def __init__(self) -> None:
        # The claims that this process has sent, by the job's number.
        self.sent_claims: dict[int, datetime | None] = {}

    def attend_safely(self, engine: RemoteEngine, job: Job) -> None:
        """Attends to a job, and ends it if it cannot go on.

        Raises what concerns all jobs of the engine: its own trouble, and the
        database's.
        """
        try:
            self.attend(engine, job)
        except (OperationalError, InterfaceError, EngineTroubleError):
            raise
        except UserError as error:
            give_up(engine, job, error.message)
        except OSError as error:
            # For example a dataset on a disk that is away: it may come back.
            note(job, f"The dataset cannot be read ({error}). It is tried again.")
        except Exception as error:
            logger.exception("Job %s cannot be watched", job.uid)
            words = unreadable_report(f"the engine {engine.name}", error)
            give_up(engine, job, words)

    def attend(self, engine: RemoteEngine, job: Job) -> None:
        """Reads what is new of a job, and tells the far side what people want."""
        if not self._is_sent(engine, job):
            return
        report = engine.poll(job)
        if report.events:
            job = ingest(job, report)
        if not job.is_live:
            return
        if report.status in Job.FINAL:
            words = ended_there(engine.name, job, report)
            end_job(job, report.status, words, was=Job.LIVE)
        elif report.status == Status.PAUSED and job.want == Job.Want.PAUSE:
            leave(job)
        elif report.status == Status.PAUSED and is_paused_by_others(engine, job):
            mark_paused(job, f"It was paused on the engine {engine.name}.")
        else:
            engine.control(job)
            show(engine, job, report)

    def _is_sent(self, engine: RemoteEngine, job: Job) -> bool:
        """Returns whether the far side has the job, after sending it where that is due.

        A job that nobody wants any more is not sent.
        """
        if job.far_uid and job.status != Status.STARTING:
            return True
        if self.sent_claims.get(job.pk, False) == job.claimed_at:
            return True
        if job.want == Job.Want.RUN:
            try:
                engine.start(job, build_spec(job))
            except NotWantedError:
                return False
        elif engine.jobs.find(job) is None:
            leave(job)
            return False
        self.sent_claims[job.pk] = job.claimed_at
        return True


def show(engine: RemoteEngine, job: Job, report: Report) -> None:
    """Shows what the far side says of a live job beside its events."""
    if report.total_steps and report.total_steps != job.total_steps:
        Job.objects.filter(pk=job.pk).update(total_steps=report.total_steps)
    if report.launched:
        mark_resumed(job)
    note(job, how_it_stands(engine.name, report))


def is_paused_by_others(engine: RemoteEngine, job: Job) -> bool:
    """Returns whether people on the far side paused a job that is to run.

    A pause of this side that was taken back is not theirs; `control` ends it.
    """
    told = engine.wishes.told_want(job)
    return job.want == Job.Want.RUN and told == Job.Want.RUN


def give_up(engine: RemoteEngine, job: Job, message: str) -> None:
    """Fails a job and cancels its far job.

    A far job that cannot be cancelled now is a stray, which is ended later.
    """
    end_job(job, Status.FAILED, message, was=Job.LIVE)
    engine.end(job, force=True)


def wait_for_engine(job: Job, error: EngineTroubleError, contact: Contact) -> None:
    """Lets a job wait for its engine, or ends it, as its owner chose.

    A job that was not sent and is not to run just leaves. One that is to stop waits no
    longer than one that is to fail.
    """
    if not job.far_uid and job.want != Job.Want.RUN:
        leave(job)
        return
    since = contact.away_since or timezone.now()
    # A job that was claimed later waits its own time.
    begun = max(since, job.claimed_at or since)
    waited = (timezone.now() - begun).total_seconds()
    if waited > FAIL_SECONDS and end_without_engine(job, error, waited):
        return
    note(job, still_trying(job, error.message, contact.num_failures, since))


def end_without_engine(job: Job, error: EngineTroubleError, waited: float) -> bool:
    """Ends a job that waits no longer, and returns whether it has ended.

    Its far job is a stray from now on. `waited` is in seconds.
    """
    if job.want == Job.Want.STOP:
        words = cancelled_while_away(error.message)
        return end_job(job, Status.CANCELLED, words, was=Job.LIVE)
    if job.when_engine_away != Job.WhenEngineAway.FAIL:
        return False
    words = failed_while_away(error.message, waited)
    return end_job(job, Status.FAILED, words, was=Job.LIVE)
