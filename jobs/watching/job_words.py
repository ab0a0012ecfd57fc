"""What people read of a job whose engine or trainer is in trouble."""

from datetime import datetime

from django.utils import timezone

from finetune_site.common.wording import about, counted
from jobs.engines.base import Report
from jobs.models import Job

# How long a job waits for an engine that is away, if it is to fail or to stop then.
FAIL_SECONDS = 120.0

Status = Job.Status


def unreadable_report(reporter: str, error: Exception) -> str:
    """Returns why a job ends whose reports cannot be read.

    `reporter` is who wrote them, for example `the trainer`.
    """
    return f"What {reporter} reported cannot be read ({error!r}). Start a new job."


def still_trying(job: Job, trouble: str, num_failures: int, since: datetime) -> str:
    """Returns how often a job's engine was asked in vain, and what the job does."""
    tries = counted(num_failures, "time")
    return f"{trouble} Tried {tries} since {_clock(since)}. {outlook(job)}"


def outlook(job: Job) -> str:
    """Returns what becomes of a job whose engine is away."""
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


def cancelled_while_away(trouble: str) -> str:
    """Returns the last words of a job that was stopped while its engine was away."""
    return (
        f"{trouble} It is stopped there once it answers; what it learned since it was "
        "last heard of is not shown here."
    )


def failed_while_away(trouble: str, seconds: float) -> str:
    """Returns the last words of a job that waited so many seconds for its engine."""
    return (
        f"{trouble} It was tried again and again for {about(seconds)}, and this job "
        "was to fail then."
    )


def ended_there(engine: str, job: Job, report: Report) -> str:
    """Returns the last words of a job whose far job ended without an event.

    It was killed, for example, or never begun.
    """
    if report.status == Status.CANCELLED and job.want == Job.Want.STOP:
        return ""
    word = Status(report.status).label.lower()
    words = f"The engine {engine} ended this job: it is {word} there."
    return f"{words} {report.message}".strip()


def how_it_stands(engine: str, report: Report) -> str:
    """Returns what a live far job waits for, or what the far side says of it."""
    there = f"The engine {engine} has the job"
    if report.status == Status.VALIDATING:
        return f"{there} and counts its tokens."
    if report.status == Status.QUEUED:
        return f"{there}. It waits there for its turn."
    return report.message


def _clock(time: datetime) -> str:
    return f"{timezone.localtime(time):%H:%M:%S}"
