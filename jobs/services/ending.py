"""Ends jobs whose trainer does not say so itself."""

from collections.abc import Iterable

from django.utils import timezone

from jobs.models import Job

LOG_TAIL_LINES = 12


def end_job(job: Job, status: str, message: str, *, was: Iterable[str]) -> bool:
    """Give a job a final status, if its status is still one of `was`."""
    jobs = Job.objects.filter(pk=job.pk, status__in=list(was))
    fields = {
        "status": status,
        "status_message": message.replace("\0", ""),
        "finished_at": timezone.now(),
        "claimed_at": None,
    }
    return jobs.update(**fields) == 1


def log_tail(job: Job) -> str:
    """The last lines a trainer wrote to its log."""
    try:
        with (job.folder / "trainer.log").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8_000))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-LOG_TAIL_LINES:])
