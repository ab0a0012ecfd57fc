"""Writes what the watcher finds into the rows of live jobs."""

from jobs.models import Job

Status = Job.Status


def mark_resumed(job: Job) -> None:
    """Shows a job whose trainer was started again as running.

    Its trainer says nothing until it is past the job's last step.
    """
    if job.status == Status.STARTING and job.started_at:
        starting = Job.objects.filter(pk=job.pk, status=Status.STARTING)
        starting.update(status=Status.RUNNING)


def mark_paused(job: Job, message: str) -> None:
    """Pauses a job that was paused elsewhere, until somebody here resumes it."""
    live = Job.objects.filter(pk=job.pk, status__in=Job.LIVE, want=Job.Want.RUN)
    live.update(
        status=Status.PAUSED,
        want=Job.Want.PAUSE,
        claimed_at=None,
        status_message=message,
    )


def note(job: Job, words: str) -> None:
    """Sets the status message of a live job."""
    # PostgreSQL takes no zeros in texts, and the words may be another server's.
    words = words.replace("\0", "")
    if job.status_message == words:
        return
    live = Job.objects.filter(pk=job.pk, status__in=Job.LIVE)
    live.update(status_message=words)
