"""Answers /v1/models: base models that are ready, and what jobs have made of them."""

from typing import Any, Literal

from django.db.models import Exists, OuterRef
from django.http import HttpRequest
from ninja import Router, Schema

from finetune_site.team.access import current_member
from jobs.api.errors import ApiError, answers
from jobs.api.keys import worker
from jobs.base_models.catalogue import BaseModel
from jobs.models import Job, Snapshot
from jobs.selectors.base_models import base_models, get_base_model, models_dir
from jobs.selectors.model_names import (
    LATEST,
    TUNED_PREFIX,
    ModelChoice,
    UnknownModelError,
    find_model,
    fine_tuned_model,
)
from jobs.services.snapshots import delete_snapshot, delete_snapshots

router = Router(tags=["Models"])

OWNER = "finetune"
# The number of fine-tuned models in the list, through which clients do not page.
MAX_LISTED = 1000


class ModelShape(Schema):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = OWNER
    shutdown_date: None = None
    # These are our own, or what OpenAI's older clients read.
    base_model: str
    root: str
    parent: str | None = None
    permission: list[Any] = []


class ModelList(Schema):
    object: Literal["list"] = "list"
    data: list[ModelShape]


class DeletedModel(Schema):
    id: str
    object: Literal["model"] = "model"
    deleted: bool = True


@router.get("/models", response=answers(ModelList))
def list_models(request: HttpRequest) -> dict[str, Any]:
    """Returns what can be trained from or asked: base models, then fine-tuned ones,
    the newest first. Single snapshots are at /v1/snapshots; each goes as a model too.
    """
    ready = [model for model in base_models() if model.is_ready(models_dir())]
    snapshots = Snapshot.objects.filter(job=OuterRef("pk"))
    succeeded = Job.objects.filter(Exists(snapshots), status=Job.Status.SUCCEEDED)
    jobs = succeeded.select_related("parent_snapshot")[:MAX_LISTED]
    return {"data": [*map(show_base_model, ready), *map(show_fine_tuned, jobs)]}


@router.get("/models/{path:model}", response=answers(ModelShape))
def retrieve_model(request: HttpRequest, model: str) -> dict[str, Any]:
    """Returns a model, by any of its names. `<name>:latest` is the newest snapshot."""
    choice = find_in_path(model)
    if choice.snapshot is None:
        return show_base_model(ready_base_model(choice))
    if is_fine_tuned(choice):
        return show_fine_tuned(choice.snapshot.job)
    return show_snapshot(choice.snapshot)


@router.delete("/models/{path:model}", auth=worker, response=answers(DeletedModel))
def delete_model(request: HttpRequest, model: str) -> dict[str, Any]:
    """Deletes a fine-tuned model with all snapshots of its job, or a snapshot alone."""
    choice, member = find_in_path(model), current_member(request)
    if choice.snapshot is None:
        raise ApiError(
            403,
            f"{choice.base_model} is a base model. An admin can remove it on the "
            "Models page.",
            param="model",
        )
    if model.lower().endswith(LATEST):
        raise ApiError(
            400,
            f"{model} names another snapshot with every job. Delete it by its id, "
            f"{choice.snapshot}.",
            param="model",
        )
    if is_fine_tuned(choice):
        delete_snapshots(member=member, job=choice.snapshot.job)
    else:
        delete_snapshot(member=member, snapshot=choice.snapshot)
    return {"id": model}


def find_in_path(name: str) -> ModelChoice:
    """Returns the model of that name. Old clients write its spaces as plus signs."""
    try:
        return find_model(name)
    except UnknownModelError:
        return find_model(name.replace("+", " "))


def is_fine_tuned(choice: ModelChoice) -> bool:
    return choice.name.startswith(TUNED_PREFIX)


def ready_base_model(choice: ModelChoice) -> BaseModel:
    """Returns the base model. Raises UnknownModelError if it is not on this machine."""
    model = get_base_model(choice.base_model)
    if not model.is_ready(models_dir()):
        raise UnknownModelError(
            f"The base model {model.name} {model.why_not_ready(models_dir())}",
            field="model",
        )
    return model


def show_base_model(model: BaseModel) -> dict[str, Any]:
    created = int(model.folder(models_dir()).stat().st_mtime)
    return {
        "id": model.name,
        "created": created,
        "base_model": model.name,
        "root": model.name,
    }


def show_fine_tuned(job: Job) -> dict[str, Any]:
    return {
        "id": fine_tuned_model(job),
        "created": int((job.finished_at or job.created_at).timestamp()),
        **_family(job),
    }


def show_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": snapshot.uid,
        "created": int(snapshot.created_at.timestamp()),
        **_family(snapshot.job),
    }


def _family(job: Job) -> dict[str, Any]:
    return {
        "base_model": job.base_model,
        "root": job.base_model,
        "parent": str(job.parent_snapshot or job.base_model),
    }
