"""Ends jobs whose trainer does not say so itself."""

from collections.abc import Iterable

from django.utils import timezone

from jobs.models import Job


def end_job(job: Job, status: str, message: str, *, was: Iterable[str]) -> bool:
    """Gives a job a final status, if its status is still one of `was`.

    Returns whether it did.
    """
    jobs = Job.objects.filter(pk=job.pk, status__in=list(was))
    fields = {
        "status": status,
        "status_message": message.replace("\0", ""),
        "finished_at": timezone.now(),
        "claimed_at": None,
    }
    return jobs.update(**fields) == 1
