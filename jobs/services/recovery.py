"""Decides what becomes of a live job whose trainer is gone without a word."""

from jobs.engines.registry import get_engine
from jobs.history.crashes import crash_of
from jobs.history.log_lines import log_tail
from jobs.models import Job
from jobs.services.ending import end_job
from jobs.services.launching import claim_is_stale, reclaim

MAX_DEATHS = 3
Status = Job.Status


def recover(job: Job, *, launched: bool) -> bool:
    """Brings a job without a trainer to where it belongs.

    Returns whether it is to be launched. It is called when no trainer lives and all
    events are read.
    """
    if job.status == Status.STARTING and not launched:
        return wait_for_launch(job)
    if may_leave(job):
        leave(job)
        return False
    return resume(job)


def wait_for_launch(job: Job) -> bool:
    """Returns whether to launch the job again, because its launch took too long.

    A job that people want to pause or stop is let go instead.
    """
    if may_leave(job):
        leave(job)
        return False
    return claim_is_stale(job) and reclaim(job)


def may_leave(job: Job) -> bool:
    """Returns whether the job can end or pause without a trainer.

    A job to be stopped is started again for a last snapshot of what it learned.
    """
    if job.want == Job.Want.STOP:
        return job.step == 0
    return job.want == Job.Want.PAUSE


def leave(job: Job) -> None:
    """Ends or pauses a job, as people wanted."""
    if job.want == Job.Want.STOP:
        end_job(job, Status.CANCELLED, "", was={job.status})
        return
    live = Job.objects.filter(pk=job.pk, status=job.status, want=Job.Want.PAUSE)
    live.update(status=Status.PAUSED, claimed_at=None)


def resume(job: Job) -> bool:
    """Claims the job again, to go on from its checkpoint. Returns whether it did.

    A job that dies again and again ends as failed.
    """
    deaths = 1 if job.step > job.deaths_at_step else job.deaths + 1
    if deaths >= MAX_DEATHS:
        end = Status.CANCELLED if job.want == Job.Want.STOP else Status.FAILED
        end_job(job, end, last_words(job, deaths), was={job.status})
        return False
    crash = crash_of(job)
    # The first death may have any reason; a second one without a word is most often for
    # memory.
    eased = get_engine(job.engine).ease(job) if deaths > 1 and not crash else ""
    at = f"at step {job.step:,}" if job.step else "before the first step"
    why = f" with an error ({crash})" if crash else ""
    again = f"The trainer ended {at}{why}; it is started again. {eased}".strip()
    return reclaim(job, deaths=deaths, deaths_at_step=job.step, status_message=again)


def last_words(job: Job, deaths: int) -> str:
    """Returns the status message of a job that died too often."""
    at = f"after step {job.step:,}" if job.step else "before the first step"
    if crash := crash_of(job):
        words = (
            f"The trainer ended {deaths} times {at} with an error: {crash}. Other "
            "settings do not help against it. Somebody who looks after this site can "
            "tell from its log what is wrong."
        )
    else:
        words = (
            f"The trainer ended {deaths} times {at} without saying why. Often that is "
            "too little memory: try a smaller batch size, fewer max tokens or LoRA."
        )
    tail = log_tail(job)
    return f"{words} The end of its log:\n{tail}" if tail else words
