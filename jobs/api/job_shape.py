"""A job as clients see it: OpenAI's object, and fields of ours."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone
from ninja import Schema

from finetune_site.common.parsing import is_text
from finetune_site.common.wording import seconds_left
from jobs.api.errors import not_found
from jobs.api.fields import AUTO
from jobs.api.setting_fields import with_used_settings
from jobs.history.results import result_file_id
from jobs.models import Job, Snapshot
from jobs.selectors.model_names import fine_tuned_model
from jobs.trainer.contract.settings import SETTINGS, Setting

ORGANIZATION = "finetune"
HYPERPARAMETERS = [
    one for one in SETTINGS.values() if one.api_place == "hyperparameters"
]
OWN_SETTINGS = [one for one in SETTINGS.values() if one.api_place == "settings"]
NAMES = {"validating": "validating_files", "starting": "queued"}

ApiStatus = Literal[
    "validating_files",
    "queued",
    "running",
    "paused",
    "succeeded",
    "failed",
    "cancelled",
]


@with_used_settings(HYPERPARAMETERS)
class UsedHyperparameters(Schema):
    pass


class UsedSupervised(Schema):
    hyperparameters: UsedHyperparameters


class UsedMethod(Schema):
    type: Literal["supervised"] = "supervised"
    supervised: UsedSupervised


class JobError(Schema):
    code: str
    message: str
    param: str | None = None


@with_used_settings(OWN_SETTINGS)
class Settings(Schema):
    prompts: list[str]
    when_engine_away: Literal["wait", "fail"]


class JobShape(Schema):
    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    status: ApiStatus
    error: JobError | None
    model: str
    fine_tuned_model: str | None
    organization_id: str = ORGANIZATION
    training_file: str
    validation_file: str | None
    result_files: list[str]
    hyperparameters: UsedHyperparameters
    method: UsedMethod
    integrations: list[dict[str, Any]] = []
    seed: int
    trained_tokens: int | None
    metadata: dict[str, str]
    user_provided_suffix: str | None

    name: str
    engine: str
    status_message: str
    step: int
    total_steps: int
    epoch: float
    train_loss: float | None
    learned_loss: float | None
    validation_loss: float | None
    seconds_left: float | None
    plan: dict[str, Any] | None
    settings: Settings
    snapshots: int
    # So many were asked for beside those that the job takes by itself.
    snapshot_requests: int
    best_snapshot: str | None
    last_snapshot: str | None


def shown_jobs() -> QuerySet[Job]:
    """Returns jobs with all that `show_job` looks at, in one query."""
    snapshots = Snapshot.objects.filter(job=OuterRef("pk")).order_by("-step")
    counted = snapshots.order_by().values("job").annotate(number=Count("pk"))
    return (
        Job.objects.select_related(
            "dataset_version", "validation_version", "parent_snapshot"
        )
        .defer(
            "dataset_version__problems",
            "dataset_version__shares",
            "validation_version__problems",
            "validation_version__shares",
        )
        .annotate(
            num_snapshots=Coalesce(Subquery(counted.values("number")), 0),
            best_uid=Subquery(snapshots.filter(best=True).values("uid")[:1]),
            last_uid=Subquery(snapshots.values("uid")[:1]),
        )
    )


def find_job(uid: str) -> Job:
    """Returns the job of that id. Raises ApiError when there is none."""
    job = shown_jobs().filter(uid=uid).first() if is_text(uid) else None
    return job or not_found("fine-tuning job", uid)


def show_job(job: Job) -> dict[str, Any]:
    """Returns the API's object for a job that `shown_jobs` has read."""
    used = used_hyperparameters(job)
    left = seconds_left(job) if job.status == Job.Status.RUNNING else None
    return {
        "id": job.uid,
        "created_at": seconds(job.created_at),
        "finished_at": seconds(job.finished_at),
        "estimated_finish": None
        if left is None
        else round(timezone.now().timestamp() + left),
        "status": api_status(job),
        "error": show_error(job),
        "model": str(job.parent_snapshot or job.base_model),
        "fine_tuned_model": made_model(job),
        "training_file": job.dataset_version.uid,
        "validation_file": getattr(job.validation_version, "uid", None),
        "result_files": [result_file_id(job)] if job.is_final and job.step else [],
        "hyperparameters": used,
        "method": {"type": "supervised", "supervised": {"hyperparameters": used}},
        "seed": job.settings.seed,
        "trained_tokens": trained_tokens(job),
        "metadata": job.metadata,
        "user_provided_suffix": job.suffix or None,
        **own_fields(job),
        "seconds_left": left,
    }


def own_fields(job: Job) -> dict[str, Any]:
    return {
        "name": job.name,
        "engine": job.engine,
        "status_message": job.status_message,
        "step": job.step,
        "total_steps": job.total_steps,
        "epoch": job.epoch,
        "train_loss": job.train_loss,
        "learned_loss": job.learned_loss,
        "validation_loss": job.validation_loss,
        "plan": job.plan or None,
        "settings": {
            **used(job, OWN_SETTINGS),
            "prompts": job.prompts,
            "when_engine_away": job.when_engine_away,
        },
        "snapshots": job.num_snapshots,  # type: ignore[attr-defined]
        "snapshot_requests": job.snapshot_requests,
        "best_snapshot": job.best_uid,  # type: ignore[attr-defined]
        "last_snapshot": job.last_uid,  # type: ignore[attr-defined]
    }


def used_hyperparameters(job: Job) -> dict[str, Any]:
    return used(job, HYPERPARAMETERS)


def used(job: Job, settings: Iterable[Setting]) -> dict[str, Any]:
    """Returns settings by their names in the API: `auto` while none is chosen."""
    return {
        one.api_name: AUTO if one.name in job.auto else getattr(job, one.name)
        for one in settings
    }


def api_status(job: Job) -> str:
    return NAMES.get(job.status, job.status)


def show_error(job: Job) -> dict[str, Any] | None:
    if job.status != Job.Status.FAILED:
        return None
    # Before the first step only the files can be at fault.
    checked = bool(job.plan)
    return {
        "code": "training_failed" if checked else "invalid_training_file",
        "message": job.status_message or "The job failed.",
        "param": None if checked else "training_file",
    }


def made_model(job: Job) -> str | None:
    return fine_tuned_model(job) if job.status == Job.Status.SUCCEEDED else None


def trained_tokens(job: Job) -> int | None:
    if not job.is_final or not job.plan:
        return None
    return round(job.plan["tokens"] * job.epoch)


def seconds(at: datetime | None) -> int | None:
    return int(at.timestamp()) if at else None
