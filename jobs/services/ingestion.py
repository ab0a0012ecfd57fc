"""Reads what trainers did into rows."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from jobs.engines.base import Report
from jobs.history.curves import smoothed_on
from jobs.models import Event, Job, Snapshot
from jobs.trainer.contract.events import Event as Line

Status = Job.Status
ECHO_FIELDS = [
    "status",
    "status_message",
    "want",
    "claimed_at",
    "queued_at",
    "started_at",
    "finished_at",
    "events_offset",
    "last_seq",
    "step",
    "epoch",
    "train_loss",
    "learned_loss",
    "first_learned_loss",
    "validation_loss",
    "best_validation_loss",
    "tokens_per_second",
    "seconds_per_step",
    "memory_bytes",
]


def ingest(job: Job, report: Report) -> Job:
    """Adds new events, what follows from them, and the cursor: all or nothing.

    Returns the job as it is now. A report that another watcher has read already changes
    nothing.
    """
    with transaction.atomic():
        job = Job.objects.select_for_update().get(pk=job.pk)
        lines = [line for line in report.events if line["seq"] > job.last_seq]
        if job.is_final or (report.events and not lines):
            return job
        if lines and lines[0]["seq"] != job.last_seq + 1:
            return job
        last_step_at = time_of_last_step(job) if lines else None
        rows = []
        for line in lines:
            last_step_at = apply(job, line, last_step_at)
            job.last_seq = line["seq"]
            rows.append(row_of(job, line))
        Event.objects.bulk_create(rows, batch_size=500)
        job.events_offset = report.offset
        job.save(update_fields=ECHO_FIELDS)
    return job


def row_of(job: Job, line: Line) -> Event:
    """Returns the row of an event, not saved."""
    data = {k: without_zero(v) for k, v in line.items() if k not in FRAME}
    return Event(
        job=job,
        seq=line["seq"],
        time=time_of(line),
        type=line["type"],
        step=line.get("step", job.step),
        data=data,
    )


# These have columns of their own.
FRAME = {"seq", "time", "type", "step"}


def without_zero(value: Any) -> Any:
    """Returns a text without zero characters, which PostgreSQL cannot keep.

    A model may well write one. Any other value is returned as it is.
    """
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def time_of(line: Line) -> datetime:
    """Returns the time of an event."""
    return datetime.fromtimestamp(line["time"], UTC)


def time_of_last_step(job: Job) -> datetime | None:
    """Returns when the last step was made.

    Returns None if the trainer was started anew since then, because the pause is not
    the time of a step.
    """
    events = job.events.filter(type__in=["step", "status", "log"])
    event = events.order_by("-seq").first()
    return event.time if event and event.type == "step" else None


def apply(job: Job, line: Line, last_step_at: datetime | None) -> datetime | None:
    """Lets one event change the job's echo. Returns when the last step was made."""
    if line["type"] == "step":
        apply_step(job, line, last_step_at)
        return time_of(line)
    if handler := HANDLERS.get(line["type"]):
        handler(job, line)
    return None if line["type"] in {"status", "log"} else last_step_at


def apply_step(job: Job, line: Line, last_step_at: datetime | None) -> None:
    """Takes over what a step reports."""
    if job.status == Status.STARTING:
        mark_running(job, time_of(line))
    # The message may be that the trainer was started again, which is over now.
    job.status_message = ""
    job.step = line["step"]
    job.epoch = line["epoch"]
    # Single steps jump too much to be read, so these end as the chart's lines do.
    job.train_loss = smoothed_on(job.train_loss, line["loss"], job.step)
    job.learned_loss = smoothed_on(job.learned_loss, line["learned_loss"], job.step)
    if job.first_learned_loss is None:
        job.first_learned_loss = line["learned_loss"]
    job.tokens_per_second = line["tokens_per_second"]
    job.memory_bytes = line["memory_bytes"]
    if last_step_at is not None:
        seconds = (time_of(line) - last_step_at).total_seconds()
        job.seconds_per_step = smoothed(job.seconds_per_step, seconds, job.step)


def smoothed(average: float | None, value: float, count: int) -> float:
    """Returns the mean of all values at first, and of about the last 50 later on.

    What comes every few steps (completions, snapshots) is in it, as it is in the time
    that is left.
    """
    if average is None:
        return value
    return average + (value - average) / min(max(count - 1, 1), 50)


def apply_validation(job: Job, line: Line) -> None:
    """Takes over a validation loss, and the best one so far."""
    job.validation_loss = line["loss"]
    best = job.best_validation_loss
    if best is None or (line["loss"] is not None and line["loss"] < best):
        job.best_validation_loss = line["loss"]


def apply_snapshot(job: Job, line: Line) -> None:
    """Adds a snapshot. If it is the best one so far, it alone is marked."""
    if line["best"]:
        Snapshot.objects.filter(job=job, best=True).update(best=False)
    Snapshot.objects.create(
        uid=line["id"],
        job=job,
        step=line["step"],
        base_model=job.base_model,
        method=job.settings.method,
        relative_path=line["path"],
        sha256=line["sha256"],
        base_sha256=line.get("base_sha256", ""),
        num_bytes=line["num_bytes"],
        learned_loss=job.learned_loss,
        validation_loss=line.get("validation_loss"),
        best=line["best"],
        created_at=time_of(line),
    )


def apply_status(job: Job, line: Line) -> None:
    """Takes over a status that the trainer reports."""
    status = line["status"]
    message = without_zero(line.get("message", ""))
    if status == Status.RUNNING:
        mark_running(job, time_of(line))
    elif status == Status.PAUSED:
        apply_pause(job, line)
    elif status in Job.FINAL:
        job.status = status
        job.finished_at = time_of(line)
        job.claimed_at = None
    job.status_message = message


def mark_running(job: Job, at: datetime) -> None:
    """Makes a job a running one; a resumed job keeps its first start."""
    job.status = Status.RUNNING
    job.started_at = job.started_at or at


def apply_pause(job: Job, line: Line) -> None:
    """Takes over that the trainer has left.

    What people want by now decides what that means.
    """
    job.claimed_at = None
    if line.get("forced") and job.want == Job.Want.RUN:
        # Something such as a full disk forced it: it waits until somebody resumes it.
        job.want = Job.Want.PAUSE
    if job.want == Job.Want.STOP:
        job.status = Status.CANCELLED
        job.finished_at = time_of(line)
    elif job.want == Job.Want.RUN:
        job.status = Status.QUEUED
        job.queued_at = time_of(line)
    else:
        job.status = Status.PAUSED


HANDLERS: dict[str, Callable[[Job, Line], None]] = {
    "status": apply_status,
    "validation": apply_validation,
    "snapshot": apply_snapshot,
}
