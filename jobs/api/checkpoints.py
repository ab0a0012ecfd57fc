"""Shows a job's snapshots as OpenAI's checkpoints, with permissions on them."""

import re
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Router, Schema
from pydantic import Field

from finetune_site.common.ids import JOB_PREFIX
from finetune_site.common.parsing import is_text
from finetune_site.team.access import current_member
from jobs.api.errors import answers, not_found
from jobs.api.events import find_followed
from jobs.api.fields import Text
from jobs.api.job_shape import seconds
from jobs.api.keys import worker
from jobs.api.paging import Limit, Order, Page, as_page, page_of
from jobs.models import CheckpointPermission, Job, Snapshot
from jobs.services.permissions import forbid_project, permit_projects

router = Router(tags=["Fine-tuning"])

CHECKPOINT_ID = re.compile(r"ftckpt-([0-9A-Za-z]{1,40})-([0-9]{1,9})")
MAX_PROJECTS = 100


class Metrics(Schema):
    """What was measured at the checkpoint's step."""

    step: int
    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class CheckpointShape(Schema):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: Metrics


class PermissionRequest(Schema):
    project_ids: Annotated[
        list[Annotated[Text, Field(min_length=1, max_length=120)]],
        Field(min_length=1, max_length=MAX_PROJECTS),
    ]


class PermissionShape(Schema):
    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    created_at: int
    project_id: str


class DeletedPermission(Schema):
    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    deleted: bool = True


@router.get(
    "/fine_tuning/jobs/{job_id}/checkpoints", response=answers(Page[CheckpointShape])
)
def list_fine_tuning_checkpoints(
    request: HttpRequest,
    job_id: str,
    limit: Limit = 10,
    after: str | None = None,
    order: Order = "desc",
) -> Any:
    """Returns a job's snapshots, the newest first, with what their steps measured."""
    job = find_followed(job_id)
    snapshots = job.snapshots.all()
    if after is not None:
        last = find_checkpoint(after, param="after").step
        snapshots = snapshots.filter(
            **{"step__lt" if order == "desc" else "step__gt": last}
        )
    snapshots = snapshots.order_by("-step" if order == "desc" else "step")
    found = list(snapshots[: limit + 1])
    measured = metrics_of(job, [snapshot.step for snapshot in found[:limit]])
    items = [show_checkpoint(job, one, measured[one.step]) for one in found[:limit]]
    return as_page(items, has_more=len(found) > limit)


@router.get(
    "/fine_tuning/checkpoints/{path:checkpoint}/permissions",
    response=answers(Page[PermissionShape]),
)
def list_checkpoint_permissions(
    request: HttpRequest,
    checkpoint: str,
    limit: Limit = 10,
    after: str | None = None,
    order: Literal["ascending", "descending", "asc", "desc"] = "descending",
    project_id: str | None = None,
) -> Any:
    """Returns notes of which projects may use a checkpoint. They are only notes: the
    whole team may use every checkpoint anyway.
    """
    permissions = find_checkpoint(checkpoint).permissions.all()
    if project_id is not None:
        known = is_text(project_id)
        permissions = permissions.filter(project_id=project_id if known else "")
    return page_of(
        permissions,
        show_permission,
        limit=limit,
        after=after,
        order="asc" if order.startswith("asc") else "desc",
    )


@router.post(
    "/fine_tuning/checkpoints/{path:checkpoint}/permissions",
    response=answers(Page[PermissionShape]),
    auth=worker,
)
def create_checkpoint_permissions(
    request: HttpRequest, checkpoint: str, body: PermissionRequest
) -> Any:
    """Notes that projects may use a checkpoint."""
    noted = permit_projects(
        member=current_member(request),
        snapshot=find_checkpoint(checkpoint),
        projects=body.project_ids,
    )
    return as_page([show_permission(permission) for permission in noted])


@router.delete(
    "/fine_tuning/checkpoints/{path:checkpoint}/permissions/{permission}",
    response=answers(DeletedPermission),
    auth=worker,
)
def delete_checkpoint_permission(
    request: HttpRequest, checkpoint: str, permission: str
) -> Any:
    """Takes back the note that a project may use a checkpoint."""
    snapshot = find_checkpoint(checkpoint)
    if not is_text(permission) or not forbid_project(
        member=current_member(request), snapshot=snapshot, uid=permission
    ):
        not_found("permission", permission)
    return {"id": permission}


def find_checkpoint(name: str, *, param: str | None = None) -> Snapshot:
    """Returns the snapshot of a checkpoint's id or a model's name. Raises ApiError."""
    if found := CHECKPOINT_ID.fullmatch(name):
        by_id = {"job__uid": JOB_PREFIX + found[1], "step": int(found[2])}
        snapshot = Snapshot.objects.filter(**by_id).first()
    else:
        known = Snapshot.objects.filter(uid=name)
        snapshot = known.first() if is_text(name) else None
    return snapshot or not_found("checkpoint", name, param=param)


def metrics_of(job: Job, steps: list[int]) -> dict[int, dict[str, Any]]:
    """Returns what the events of these steps measured, by OpenAI's names."""
    measured: dict[int, dict[str, Any]] = {step: {"step": step} for step in steps}
    events = job.events.filter(type__in=("step", "validation"), step__in=steps)
    for type_, step, data in events.values_list("type", "step", "data"):
        loss, accuracy = data.get("loss"), data.get("accuracy")
        if type_ == "step":
            found = {"train_loss": loss, "train_mean_token_accuracy": accuracy}
        else:
            # A validation always looks at all rows, so both names mean the same.
            found = {"valid_loss": loss, "valid_mean_token_accuracy": accuracy}
            found |= {f"full_{name}": value for name, value in found.items()}
        measured[step] |= found
    return measured


def show_checkpoint(
    job: Job, snapshot: Snapshot, metrics: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": f"ftckpt-{job.uid.removeprefix(JOB_PREFIX)}-{snapshot.step}",
        "created_at": seconds(snapshot.created_at),
        "fine_tuned_model_checkpoint": snapshot.uid,
        "fine_tuning_job_id": job.uid,
        "step_number": snapshot.step,
        "metrics": metrics,
    }


def show_permission(permission: CheckpointPermission) -> dict[str, Any]:
    return {
        "id": permission.uid,
        "created_at": seconds(permission.created_at),
        "project_id": permission.project_id,
    }
