"""What people do with jobs that there are: stop, pause, resume, delete."""

import shutil
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django_q.tasks import async_task

from finetune_site.common.errors import UserError
from finetune_site.team.models import Member
from finetune_site.team.services import record
from jobs.engines.strays import unheard
from jobs.models import Job

Status = Job.Status


def stop_job(*, member: Member | None, job: Job) -> Job:
    """What has learned leaves a last snapshot; the others end at once.

    A trainer takes it. A paused job queues for one: its checkpoint is no snapshot.
    """
    unlearned = Q(status__in=[Status.VALIDATING, Status.QUEUED, Status.PAUSED], step=0)
    end = {"status": Status.CANCELLED, "finished_at": timezone.now()}
    stop = {"want": Job.Want.STOP}
    with transaction.atomic():
        # Its status may change in between: then look again.
        while not (
            change(job, unlearned, **end, **stop)
            or change(job, Q(status=Status.PAUSED), status=Status.QUEUED, **stop)
            or change(job, Q(status__in=[Status.QUEUED, *Job.LIVE]), **stop)
        ):
            if job.is_final:
                word = job.get_status_display().lower()
                raise UserError(f"{job} has ended already: it is {word}.")
        record(member=member, action="job.stop", subject=str(job), job=job.uid)
        if job.status == Status.QUEUED:
            launch_soon(job)
    return job


def pause_job(*, member: Member | None, job: Job) -> Job:
    """Frees the engine's place; the job can be resumed from where it stands."""
    goes_on = Q(want=Job.Want.RUN)
    queued, live = Q(status=Status.QUEUED), Q(status__in=Job.LIVE)
    pause = {"want": Job.Want.PAUSE}
    with transaction.atomic():
        if not (
            change(job, goes_on & queued, status=Status.PAUSED, **pause)
            or change(job, goes_on & live, **pause)
        ):
            raise UserError(
                f"{job} cannot be paused: it is {job.get_status_display().lower()}."
            )
        record(member=member, action="job.pause", subject=str(job), job=job.uid)
    return job


def resume_job(*, member: Member | None, job: Job) -> Job:
    """A paused job queues again; a pause that has not been obeyed is taken back."""
    not_obeyed = Q(status__in=Job.LIVE, want=Job.Want.PAUSE)
    run = {"want": Job.Want.RUN}
    queue = {"status": Status.QUEUED, "queued_at": timezone.now()}
    with transaction.atomic():
        if not (
            change(job, Q(status=Status.PAUSED), **queue, **run)
            or change(job, not_obeyed, **run)
        ):
            raise UserError(
                f"{job} cannot be resumed: it is {job.get_status_display().lower()}."
            )
        record(member=member, action="job.resume", subject=str(job), job=job.uid)
        launch_soon(job)
    return job


def launch_soon(job: Job) -> None:
    engine = job.engine
    transaction.on_commit(lambda: async_task("jobs.tasks.launch_queued", engine))


def request_snapshot(*, member: Member | None, job: Job) -> Job:
    """The trainer takes one after the step it is at."""
    running = Q(status=Status.RUNNING)
    with transaction.atomic():
        if not change(job, running, snapshot_requests=F("snapshot_requests") + 1):
            raise UserError(
                f"{job} takes snapshots while it runs; it is "
                f"{job.get_status_display().lower()}."
            )
        record(member=member, action="job.snapshot", subject=str(job), job=job.uid)
    return job


def request_snapshots(*, member: Member | None, job: Job, total: int) -> Job:
    """So many in all: however often it is asked for, there are no more than that."""
    unfinished = ~Q(status__in=Job.FINAL)
    fewer = Q(snapshot_requests__lt=total)
    with transaction.atomic():
        if change(job, unfinished & fewer, snapshot_requests=total):
            record(member=member, action="job.snapshot", subject=str(job), job=job.uid)
        elif job.is_final:
            word = job.get_status_display().lower()
            raise UserError(f"{job} has ended already: it is {word}.")
    return job


def delete_job(*, member: Member | None, job: Job) -> None:
    """Takes its snapshots along."""
    job.refresh_from_db()
    if not job.is_final:
        raise UserError(f"{job} has not ended. Stop it first.")
    child = Job.objects.filter(parent_snapshot__job=job).exclude(pk=job.pk).first()
    if child:
        raise UserError(
            f"{child} was trained from a snapshot of {job}. Delete {child} first."
        )
    folder, uid, subject = job.folder, job.uid, str(job)
    with transaction.atomic():
        job.delete()
        record(member=member, action="job.delete", subject=subject, job=uid)
    # After the rows: a folder without a row harms nobody, the reverse does.
    shutil.rmtree(folder, ignore_errors=True)


def left_elsewhere(job: Job) -> str:
    """What deleting it here leaves on another server, in words."""
    if not job.far_uid:
        return ""
    words = f"The engine {job.engine} keeps its own copy, which is deleted there."
    if unheard(job.engine).filter(pk=job.pk).exists():
        words += (
            " This site has not heard that the job ended there: should it go on, only "
            "people there can stop it once it is deleted here."
        )
    return words


def change(job: Job, where: Q, /, **fields: Any) -> bool:
    """Change a job if it is still as `where` says; tells whether it was."""
    changed = Job.objects.filter(where, pk=job.pk).update(**fields) == 1
    job.refresh_from_db()
    return changed
