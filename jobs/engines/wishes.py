"""Tells another server what people want of a job: run, pause, stop, a snapshot."""

import time
from dataclasses import dataclass, replace

from jobs.engines.far_jobs import FarJobs, snapshot_requests_of
from jobs.engines.far_server import Answer
from jobs.models import Job

# A wish that shows no effect is sent again after this long.
TELL_AGAIN_SECONDS = 5.0
# The words of the API for them.
ACTIONS: dict[str, str] = {
    Job.Want.RUN: "resume",
    Job.Want.PAUSE: "pause",
    Job.Want.STOP: "cancel",
}


@dataclass(frozen=True)
class Told:
    """What this process has told the far side of a job, and when."""

    want: str
    at: float
    # How many of the requests made here are counted in `total`. The far side has one
    # total, to which the requests of its own people belong too.
    snapshot_requests: int
    total: int = 0
    # The total that the far side was told.
    told_total: int = 0


class Wishes:
    """The wishes for the jobs of one engine, told until the far side follows them.

    `told` holds what was told, by the job's uid. Losing it costs a few more calls; at
    worst a request for a snapshot is not sent, if it was made while this side was not
    running.
    """

    def __init__(self, jobs: FarJobs, told: dict[str, Told]) -> None:
        self.jobs = jobs
        self.told = told

    def begin(self, job: Job, far_job: Answer) -> None:
        """Notes that the far side was just told to run the job."""
        self.told[job.uid] = first_told(job, far_job, time.monotonic())

    def told_want(self, job: Job) -> str:
        """Returns the want that the far side was told last: at first, to run."""
        told = self.told.get(job.uid)
        return told.want if told else Job.Want.RUN

    def tell(self, job: Job) -> None:
        """Sends the wishes that the far side does not follow yet."""
        told = self.told.get(job.uid) or first_told(job, self.jobs.recent(job), 0.0)
        if told.want != job.want or is_ignored(told):
            self.jobs.act(job, ACTIONS[job.want])
            told = replace(told, want=job.want, at=time.monotonic())
        if job.snapshot_requests > told.snapshot_requests:
            told = count_requests(job, self.jobs.look(job), told)
        # Before it is sent: after a lost answer the same total is sent again.
        self.told[job.uid] = told
        if told.total > told.told_total:
            self.jobs.act(job, "snapshots", {"requests": told.total})
            self.told[job.uid] = replace(told, told_total=told.total)


def is_ignored(told: Told) -> bool:
    """Returns whether a pause or stop was told a while ago. It is to be told again."""
    waited = time.monotonic() - told.at
    return told.want != Job.Want.RUN and waited > TELL_AGAIN_SECONDS


def first_told(job: Job, far_job: Answer, at: float) -> Told:
    """Returns what a process takes as told before it has told anything itself.

    The far side was told to run the job. The requests for snapshots that it has counted
    are taken for requests of this side, which another process may have sent.
    """
    counted = min(job.snapshot_requests, snapshot_requests_of(far_job))
    return Told(Job.Want.RUN, at, counted)


def count_requests(job: Job, far_job: Answer, told: Told) -> Told:
    """Returns `told` with the new requests of this side added to the total there."""
    there = max(told.total, snapshot_requests_of(far_job))
    total = there + job.snapshot_requests - told.snapshot_requests
    return replace(told, snapshot_requests=job.snapshot_requests, total=total)
