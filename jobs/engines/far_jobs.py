"""The jobs of this site on another server: found, looked at, and acted on."""

import time
from dataclasses import dataclass
from typing import Any

from jobs.engines.base import RunFolderError
from jobs.engines.far_api import FarApi
from jobs.engines.far_server import Answer, FarRefusalError
from jobs.models import Job

# A far job is asked for again when what is known of it is older than this.
JOB_SECONDS = 2.0
# The far side's words about a job may hold the end of its log.
MAX_MESSAGE_CHARACTERS = 4000
MAX_FAR_UID_CHARACTERS = 80

Status = Job.Status
# The words of the API for them.
STATUSES = {
    "validating_files": Status.VALIDATING,
    "queued": Status.QUEUED,
    "running": Status.RUNNING,
    "paused": Status.PAUSED,
    "succeeded": Status.SUCCEEDED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
}


@dataclass(frozen=True)
class Seen:
    """A far job as the far side answered, and when (seconds of `time.monotonic`)."""

    answer: Answer
    at: float


class FarJobs:
    """The far jobs of one engine. What is remembered only saves calls."""

    def __init__(self, far: FarApi) -> None:
        self.far = far
        # By the uid of the job here.
        self.seen: dict[str, Seen] = {}

    def find(self, job: Job) -> Answer | None:
        """Returns the far job, also where the answer to its creation was lost.

        None: the far side has no such job.
        """
        if job.far_uid:
            return self.look(job)
        far_job = self.far.find_job(job.uid)
        if far_job is not None:
            self.keep_uid(job, far_job)
        return far_job

    def recent(self, job: Job) -> Answer:
        """Returns the far job as it was at most JOB_SECONDS ago."""
        seen = self.seen.get(job.uid)
        if seen and time.monotonic() - seen.at < JOB_SECONDS:
            return seen.answer
        return self.look(job)

    def look(self, job: Job) -> Answer:
        """Asks for the far job now. Raises RunFolderError if it was deleted there."""
        try:
            far_job = self.far.job(job.far_uid)
        except FarRefusalError as error:
            if not error.is_unknown:
                raise
            raise RunFolderError(
                f"The engine {self.far.name} no longer has this job: it was deleted "
                "there. Start a new job."
            ) from None
        self.note(job, far_job)
        return far_job

    def act(self, job: Job, action: str, body: Answer | None = None) -> Answer | None:
        """Returns the far job after an action: cancel, pause, resume or snapshots.

        None: the far job is not in a state for it. The next look says in which it is.
        """
        self.seen.pop(job.uid, None)
        try:
            return self.far.act(job.far_uid, action, body)
        except FarRefusalError:
            return None

    def note(self, job: Job, far_job: Answer) -> None:
        """Remembers the far job as it is now."""
        self.seen[job.uid] = Seen(far_job, time.monotonic())

    def keep_uid(self, job: Job, far_job: Answer) -> None:
        """Saves the far job's id in the job's row."""
        job.far_uid = str(far_job.get("id"))[:MAX_FAR_UID_CHARACTERS]
        Job.objects.filter(pk=job.pk).update(far_uid=job.far_uid)


def status_of(far_job: Answer) -> str:
    """Returns the far job's status as one of `Job.Status`.

    A status that this site does not know counts as queued, so the job is waited for.
    """
    return STATUSES.get(str(far_job.get("status")), Status.QUEUED)


def message_of(far_job: Answer) -> str:
    """Returns why the far job failed, or else its status message."""
    error = far_job.get("error")
    if isinstance(error, dict) and error.get("message"):
        return str(error["message"])[:MAX_MESSAGE_CHARACTERS]
    return str(far_job.get("status_message") or "")[:MAX_MESSAGE_CHARACTERS]


def total_steps_of(far_job: Answer) -> int:
    """Returns the number of steps that the far side has planned; 0: not known."""
    return _whole_number(far_job.get("total_steps"))


def snapshot_requests_of(far_job: Answer) -> int:
    """Returns how many snapshots were asked for there, by this site or by people."""
    return _whole_number(far_job.get("snapshot_requests"))


def _whole_number(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0
