"""Deletes snapshots: one, or all of a job."""

import shutil
from collections.abc import Sequence

from django.db import transaction
from django.db.models import ProtectedError

from finetune_site.common.errors import UserError
from finetune_site.team.models import Member
from finetune_site.team.services import record
from jobs.models import Job, Snapshot


def delete_snapshot(*, member: Member | None, snapshot: Snapshot) -> None:
    """Deletes a snapshot. Raises UserError as `delete_snapshots` does."""
    _delete(member, snapshot.job, [snapshot])


def delete_snapshots(*, member: Member | None, job: Job) -> None:
    """Deletes all snapshots of a job, and with them its fine-tuned model.

    Raises UserError if the job has not ended, or another one was trained from them.
    """
    _delete(member, job, list(job.snapshots.select_related("job")))


def _delete(member: Member | None, job: Job, snapshots: Sequence[Snapshot]) -> None:
    if not job.is_final:
        raise UserError(
            f"{job} has not ended, and may still compare its snapshots. Stop it first."
        )
    folders = [snapshot.folder for snapshot in snapshots if snapshot.is_here]
    try:
        with transaction.atomic():
            for snapshot in snapshots:
                uid = snapshot.uid
                snapshot.delete()
                record(
                    member=member, action="snapshot.delete", subject=uid, job=job.uid
                )
    except ProtectedError as error:
        child = next(iter(error.protected_objects))
        raise UserError(
            f"{child} was trained from it and needs it. Delete {child} first."
        ) from None
    # The folders go after the rows: a folder without a row harms nobody.
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
