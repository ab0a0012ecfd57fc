"""Answers /v1/snapshots, and /v1/tags: names that move from snapshot to snapshot."""

from typing import Any, Literal

from django.db.models import Max, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from ninja import Router, Schema

from finetune_site.common.parsing import is_text
from finetune_site.team.access import current_member
from jobs.api.errors import answers, not_found
from jobs.api.keys import worker
from jobs.api.paging import Limit, Order, Page, page_of
from jobs.models import Job, Snapshot
from jobs.selectors.model_names import LATEST
from jobs.services.snapshots import delete_snapshot

router = Router(tags=["Snapshots"])


class SnapshotShape(Schema):
    id: str
    object: Literal["snapshot"] = "snapshot"
    created_at: int
    job: str
    step: int
    base_model: str
    # The snapshot that its job started from, if it was not the base model itself.
    parent: str | None
    method: Literal["full", "lora"]
    engine: str
    best: bool
    learned_loss: float | None
    validation_loss: float | None
    bytes: int
    sha256: str


class DeletedSnapshot(Schema):
    id: str
    object: Literal["snapshot"] = "snapshot"
    deleted: bool = True


class Tag(Schema):
    """`id` goes as a model, and means the snapshot `model` at the moment."""

    id: str
    object: Literal["tag"] = "tag"
    model: str


class TagList(Schema):
    object: Literal["list"] = "list"
    data: list[Tag]


@router.get("/snapshots", response=answers(Page[SnapshotShape]))
def list_snapshots(
    request: HttpRequest,
    job: str | None = None,
    limit: Limit = 100,
    after: str | None = None,
    order: Order = "desc",
) -> dict[str, Any]:
    """Returns the snapshots, the newest first. `job` takes a fine-tuning job's id."""
    found = snapshots()
    if job is not None:
        found = found.filter(job__uid=job) if is_text(job) else found.none()
    return page_of(found, show_snapshot, limit=limit, after=after, order=order)


@router.get("/snapshots/{path:snapshot}", response=answers(SnapshotShape))
def retrieve_snapshot(request: HttpRequest, snapshot: str) -> dict[str, Any]:
    return show_snapshot(get_snapshot(snapshot))


@router.delete(
    "/snapshots/{path:snapshot}", auth=worker, response=answers(DeletedSnapshot)
)
def remove_snapshot(request: HttpRequest, snapshot: str) -> dict[str, Any]:
    """Deletes a snapshot, unless its job goes on or another job was trained from it."""
    delete_snapshot(member=current_member(request), snapshot=get_snapshot(snapshot))
    return {"id": snapshot}


@router.get("/tags", response=answers(TagList))
def list_tags(request: HttpRequest) -> dict[str, Any]:
    """Returns every `<name>:latest`: names of jobs, their suffixes, and base models."""
    tags = newest_by_name()
    return {"data": [{"id": name + LATEST, "model": tags[name]} for name in tags]}


def get_snapshot(uid: str) -> Snapshot:
    """Returns the snapshot of that id. Raises ApiError if there is none."""
    found = snapshots().filter(uid=uid).first() if is_text(uid) else None
    return found or not_found("snapshot", uid, param="snapshot")


def snapshots() -> QuerySet[Snapshot]:
    return Snapshot.objects.select_related("job__parent_snapshot")


def newest_by_name() -> dict[str, str]:
    """Returns the uid of the snapshot that each name means now, as in `find_model`."""
    named = [*_by_job("suffix"), *_by_job("name"), *_by_base_model()]
    tags: dict[str, tuple[str, str]] = {}
    for name, uid in named:
        tags.setdefault(name.lower(), (name, uid))
    return dict(tags.values())


def _by_job(field: str) -> QuerySet[Any]:
    """Returns pairs of a name and its last snapshot's uid, the newest job first."""
    last = Snapshot.objects.filter(job=OuterRef("pk")).order_by("-step").values("uid")
    jobs = Job.objects.annotate(last=Subquery(last[:1])).exclude(last=None)
    return jobs.exclude(**{field: ""}).order_by("-pk").values_list(field, "last")


def _by_base_model() -> QuerySet[Any]:
    newest = Snapshot.objects.order_by().values("base_model").annotate(newest=Max("pk"))
    snapshots = Snapshot.objects.filter(pk__in=newest.values("newest"))
    return snapshots.values_list("base_model", "uid")


def show_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    job = snapshot.job
    return {
        "id": snapshot.uid,
        "created_at": int(snapshot.created_at.timestamp()),
        "job": job.uid,
        "step": snapshot.step,
        "base_model": snapshot.base_model,
        "parent": job.parent_snapshot.uid if job.parent_snapshot else None,
        "method": snapshot.method,
        "engine": job.engine,
        "best": snapshot.best,
        "learned_loss": snapshot.learned_loss,
        "validation_loss": snapshot.validation_loss,
        "bytes": snapshot.num_bytes,
        "sha256": snapshot.sha256,
    }
