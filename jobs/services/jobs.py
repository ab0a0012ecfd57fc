"""Changes existing jobs, as people ask for it: stop, pause, resume, delete."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction
from django.utils import timezone
from django_q.tasks import async_task

from finetune_site.common.errors import UserError
from finetune_site.team.models import Member
from finetune_site.team.services import record
from jobs.engines.strays import unheard
from jobs.models import Job

Status = Job.Status


def stop_job(*, member: Member | None, job: Job) -> Job:
    """Ends a job for good. Raises UserError if it has ended already.

    A job that has learned nothing ends at once. The trainer of any other job takes a
    last snapshot first.
    """
    with _locked(job):
        if job.is_final:
            raise _ended_already(job)
        if job.step == 0 and not job.is_live:
            job.status = Status.CANCELLED
            job.finished_at = timezone.now()
        elif job.status == Status.PAUSED:
            # Only a trainer can turn its checkpoint into a snapshot.
            job.status = Status.QUEUED
        job.want = Job.Want.STOP
        job.stopped_by = member
        job.save(update_fields=["status", "finished_at", "want", "stopped_by"])
        record(member=member, action="job.stop", subject=str(job), job=job.uid)
        if job.status == Status.QUEUED:
            launch_soon(job)
    return job


def pause_job(*, member: Member | None, job: Job) -> Job:
    """Frees the engine's place; the job can be resumed from where it stands.

    Raises UserError if the job neither waits for a trainer nor has one, or if it is
    being paused or stopped already.
    """
    with _locked(job):
        can_pause = job.status == Status.QUEUED or job.is_live
        if job.want != Job.Want.RUN or not can_pause:
            raise UserError(f"{job} cannot be paused: it is {_status_word(job)}.")
        if job.status == Status.QUEUED:
            job.status = Status.PAUSED
        job.want = Job.Want.PAUSE
        job.save(update_fields=["status", "want"])
        record(member=member, action="job.pause", subject=str(job), job=job.uid)
    return job


def resume_job(*, member: Member | None, job: Job) -> Job:
    """Queues a paused job again, or takes back a pause that is not obeyed yet.

    Raises UserError if the job is neither paused nor being paused.
    """
    with _locked(job):
        being_paused = job.is_live and job.want == Job.Want.PAUSE
        if job.status != Status.PAUSED and not being_paused:
            raise UserError(f"{job} cannot be resumed: it is {_status_word(job)}.")
        if job.status == Status.PAUSED:
            job.status = Status.QUEUED
            job.queued_at = timezone.now()
        job.want = Job.Want.RUN
        job.save(update_fields=["status", "queued_at", "want"])
        record(member=member, action="job.resume", subject=str(job), job=job.uid)
        launch_soon(job)
    return job


def launch_soon(job: Job) -> None:
    """Launches the waiting jobs of the job's engine once this change is saved."""
    engine = job.engine
    transaction.on_commit(lambda: async_task("jobs.tasks.launch_queued", engine))


def request_snapshot(*, member: Member | None, job: Job) -> Job:
    """Asks the trainer for a snapshot after the step that it is at.

    Raises UserError if the job is not running.
    """
    with _locked(job):
        if job.status != Status.RUNNING:
            raise UserError(
                f"{job} takes snapshots while it runs; it is {_status_word(job)}."
            )
        _set_snapshot_requests(member, job, job.snapshot_requests + 1)
    return job


def request_snapshots(*, member: Member | None, job: Job, total: int) -> Job:
    """Raises the number of requests to `total`, so that asking twice changes nothing.

    Raises UserError if the job has ended.
    """
    with _locked(job):
        if job.is_final:
            raise _ended_already(job)
        if job.snapshot_requests < total:
            _set_snapshot_requests(member, job, total)
    return job


def _set_snapshot_requests(member: Member | None, job: Job, total: int) -> None:
    job.snapshot_requests = total
    job.save(update_fields=["snapshot_requests"])
    record(member=member, action="job.snapshot", subject=str(job), job=job.uid)


def delete_job(*, member: Member | None, job: Job) -> None:
    """Deletes a job that has ended, together with its snapshots.

    Raises UserError if it has not ended, or if another job was trained from one of its
    snapshots.
    """
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
    # The folder goes after the rows: a folder without a row harms nobody.
    shutil.rmtree(folder, ignore_errors=True)


def left_elsewhere(job: Job) -> str:
    """Returns what deleting the job here leaves on another server, in words.

    The text is empty for a job that no other server has.
    """
    if not job.far_uid:
        return ""
    words = f"The engine {job.engine} keeps its own copy, which is deleted there."
    if unheard(job.engine).filter(pk=job.pk).exists():
        words += (
            " This site has not heard that the job ended there: should it go on, only "
            "people there can stop it once it is deleted here."
        )
    return words


@contextmanager
def _locked(job: Job) -> Iterator[None]:
    """Reads the job afresh and keeps its row from every other writer until the end.

    The watcher may write what the trainer reports at any time.
    """
    with transaction.atomic():
        job.refresh_from_db(from_queryset=Job.objects.select_for_update())
        yield


def _ended_already(job: Job) -> UserError:
    return UserError(f"{job} has ended already: it is {_status_word(job)}.")


def _status_word(job: Job) -> str:
    return job.get_status_display().lower()
