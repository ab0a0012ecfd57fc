"""Ends strays: far jobs of jobs that have ended here without the far side's word.

For example, a job failed because its engine was away, and trains on there.
"""

from datetime import timedelta

from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from jobs.engines.base import RunFolderError
from jobs.engines.far_jobs import FarJobs, status_of
from jobs.models import Event, Job

# How long ago such a job may have ended, to be looked for on the far side.
STRAY_DAYS = 7
# The answer to a job's creation may have been lost while the creation was on its way;
# after this long it has arrived or never will.
LATE_SECONDS = 600.0

Status = Job.Status


class Strays:
    """The strays of one engine, each looked for until it has ended."""

    def __init__(self, jobs: FarJobs) -> None:
        self.jobs = jobs
        # Numbers of jobs that need no look any more.
        self.settled: set[int] = set()

    def end(self) -> None:
        """Cancels all strays that still run."""
        for job in unheard(self.jobs.far.name).exclude(pk__in=self.settled):
            if self._settle(job):
                self.settled.add(job.pk)

    def _settle(self, job: Job) -> bool:
        """Returns whether nothing is left to end."""
        try:
            far_job = self.jobs.find(job)
        except RunFolderError:
            return True
        if far_job is None:
            late = timezone.now() - timedelta(seconds=LATE_SECONDS)
            return job.finished_at is not None and job.finished_at < late
        if status_of(far_job) in Job.FINAL:
            return True
        self.jobs.act(job, "cancel")
        return False


def unheard(engine: str) -> QuerySet[Job]:
    """Returns an engine's jobs that ended lately, but not by an event of theirs."""
    last_word = Event.objects.filter(
        job=OuterRef("pk"), type="status", data__status__in=list(Job.FINAL)
    )
    return Job.objects.filter(
        ~Exists(last_word),
        engine=engine,
        # Nothing of a job is sent before it is queued.
        queued_at__isnull=False,
        status__in=[Status.FAILED, Status.CANCELLED],
        finished_at__gt=timezone.now() - timedelta(days=STRAY_DAYS),
    )
