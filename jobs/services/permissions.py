"""Notes which projects may use a snapshot, with lines in the audit trail."""

from collections.abc import Sequence

from django.db import transaction
from django.db.models import QuerySet

from finetune_site.common.ids import random_id
from finetune_site.team.models import Member
from finetune_site.team.services import record
from jobs.models import CheckpointPermission, Snapshot


@transaction.atomic
def permit_projects(
    *, member: Member, snapshot: Snapshot, projects: Sequence[str]
) -> QuerySet[CheckpointPermission]:
    """Returns the notes of all these projects, also those that were there before."""
    CheckpointPermission.objects.bulk_create(
        [
            CheckpointPermission(
                uid=random_id("cp"), snapshot=snapshot, project_id=project
            )
            for project in dict.fromkeys(projects)
        ],
        ignore_conflicts=True,
    )
    record(
        member=member,
        action="snapshot.permit",
        subject=str(snapshot),
        projects=list(projects),
    )
    return snapshot.permissions.filter(project_id__in=projects).order_by("pk")


@transaction.atomic
def forbid_project(*, member: Member, snapshot: Snapshot, uid: str) -> bool:
    """Takes a note back. Returns False if there is none of that id."""
    if not snapshot.permissions.filter(uid=uid).delete()[0]:
        return False
    record(
        member=member,
        action="snapshot.forbid",
        subject=str(snapshot),
        permission=uid,
    )
    return True
