"""Tells where a job stands: in the queue, on its way, and at its next snapshot."""

from typing import Any

from django.db.models import Q
from django.utils import timezone

from finetune_site.common.wording import count
from jobs.models import EngineSetting, Job, Snapshot

MAX_MARKS = 8
# Marks beyond this share of the bar would hang over its end.
LAST_MARK_SHARE = 0.97


def is_out_of_reach(job: Job) -> bool:
    """Returns whether a running job is silent because its engine does not answer."""
    if job.status != Job.Status.RUNNING:
        return False
    silent = EngineSetting.objects.filter(name=job.engine).exclude(trouble="")
    return silent.exists()


def read_progress(job: Job, *, away: bool) -> dict[str, Any]:
    """Returns the part of the live page's context that tells how far the job is.

    `away` says that the engine of a running job is out of reach.
    """
    ahead = num_ahead(job) if job.shown_status == Job.Status.QUEUED else 0
    speed = job.seconds_per_step
    end = job.finished_at or timezone.now()
    started = job.started_at
    return {
        "ahead": ahead,
        "badge_text": _badge_text(job, ahead, away=away),
        "elapsed": (end - started).total_seconds() if started else None,
        "progress_label": f"Step {count(job.step)} of {count(job.total_steps)}",
        "steps_per_second": 1 / speed if speed else None,
        "next_snapshot": None if away else _next_snapshot(job),
    }


def num_ahead(job: Job) -> int:
    """Returns how many jobs the engine runs, or will run, before this one."""
    if job.status == Job.Status.STARTING:
        return 0
    jobs = Job.objects.filter(engine=job.engine).exclude(pk=job.pk)
    earlier = Q(status=Job.Status.QUEUED, queued_at__lt=job.queued_at or timezone.now())
    return jobs.filter(Q(status__in=Job.LIVE) | earlier).count()


def snapshot_marks(job: Job, best: Snapshot | None) -> list[dict[str, Any]]:
    """Returns where snapshots lie on the progress bar.

    These are the best snapshot and at most MAX_MARKS others, evenly apart.
    """
    every = job.settings.snapshots_every
    if not every or job.total_steps <= every:
        return []
    stride = every * -(-job.total_steps // (every * MAX_MARKS))
    last = job.total_steps * LAST_MARK_SHARE
    steps = set(range(stride, round(last), stride))
    if best and best.step < last:
        steps = {step for step in steps if abs(step - best.step) >= stride} | {
            best.step
        }
    return [
        {
            "percent": f"{100 * step / job.total_steps:.2f}",
            "step": step,
            "best": best is not None and step == best.step,
        }
        for step in sorted(steps)
    ]


def _badge_text(job: Job, ahead: int, *, away: bool) -> str:
    """Returns what the badge says instead of the status, or an empty text."""
    if not job.is_final and job.want == Job.Want.STOP:
        return "Stopping"
    if job.is_live and job.want == Job.Want.PAUSE:
        return "Pausing"
    if away:
        return f"Waiting for {job.engine}"
    return f"Queued, position {ahead}" if ahead else ""


def _next_snapshot(job: Job) -> tuple[int, float | None] | None:
    """Returns the step of the next snapshot, and in how many seconds it comes."""
    if job.status != Job.Status.RUNNING or job.step >= job.total_steps:
        return None
    every = job.settings.snapshots_every or job.total_steps
    step = min((job.step // every + 1) * every, job.total_steps)
    speed = job.seconds_per_step
    return step, (step - job.step) * speed if speed else None
