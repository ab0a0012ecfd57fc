"""What a client may call a model, and which model that is."""

from dataclasses import dataclass

from django.db.models import QuerySet

from finetune_site.common.errors import UserError
from finetune_site.common.ids import JOB_PREFIX
from finetune_site.common.parsing import is_text
from jobs.models import Job, Snapshot
from jobs.selectors.base_models import base_models

TUNED_PREFIX = "ft:"
LATEST = ":latest"
# No name is longer; databases need not look for what cannot be.
MAX_NAME_CHARACTERS = 300


class UnknownModelError(UserError):
    """No model goes by that name."""


@dataclass(frozen=True)
class ModelChoice:
    # As the client wrote it.
    name: str
    base_model: str
    # None: the base model itself.
    snapshot: Snapshot | None


def find_model(name: str, *, engine: str = "") -> ModelChoice:
    """The model of that name: UnknownModelError when there is none.

    Names are a base model's (in any case), a snapshot's uid, the fine-tuned model of a
    job, and `<name>:latest`, where the name is a job's, its suffix, or a base model's.
    A base model may be one that is not on this machine. With an engine, the latest is
    the latest there, if it has one.
    """
    if _is_storable(name):
        if base_model := _find_any_case(name):
            return ModelChoice(name, base_model, None)
        if snapshot := _find_snapshot(name, engine):
            return ModelChoice(name, snapshot.base_model, snapshot)
    raise UnknownModelError(
        f"There is no model {name[:100]!r} here. GET /v1/models lists those there are.",
        field="model",
    )


def fine_tuned_model(job: Job) -> str:
    """The name of what a job made: its best snapshot if one is marked, else its last.

    Always four colons, as clients split it.
    """
    uid = job.uid.removeprefix(JOB_PREFIX)
    return f"{TUNED_PREFIX}{job.base_model}::{job.suffix}:{uid}"


def _find_snapshot(name: str, engine: str = "") -> Snapshot | None:
    if name.startswith(TUNED_PREFIX):
        return _of_fine_tuned(name)
    if found := _snapshots().filter(uid=name).first():
        return found
    if name.lower().endswith(LATEST):
        trained = name[: -len(LATEST)]
        there = _latest(trained, engine=engine) if engine else None
        return there or _latest(trained)
    return None


def _chosen_snapshot(job: Job) -> Snapshot | None:
    """What the name of a job's fine-tuned model means."""
    return _snapshots().filter(job=job).order_by("-best", "-step").first()


def _find_any_case(name: str) -> str | None:
    """Returns the base model's own name: clients write `Ada` for `ada`."""
    # Base models' names hold no colon; most others do, and need no look at the folders.
    if ":" in name:
        return None
    names = [model.name for model in base_models()]
    if name in names:
        return name
    wanted = name.casefold()
    return next((known for known in names if known.casefold() == wanted), None)


def _is_storable(name: str) -> bool:
    """Whether a database can look for it."""
    return is_text(name) and len(name) <= MAX_NAME_CHARACTERS


def _of_fine_tuned(name: str) -> Snapshot | None:
    job = Job.objects.filter(uid=JOB_PREFIX + name.rpartition(":")[2]).first()
    if job is None or fine_tuned_model(job) != name:
        return None
    return _chosen_snapshot(job)


def _latest(name: str, **jobs: str) -> Snapshot | None:
    """Of the newest job of that suffix or name, else of any that the base model had."""
    trained = Job.objects.filter(snapshots__isnull=False, **jobs)
    for field in ("suffix", "name"):
        job = trained.filter(**{f"{field}__iexact": name}).first() if name else None
        if job:
            return _snapshots().filter(job=job).order_by("-step").first()
    base_model = _find_any_case(name)
    if base_model is None:
        return None
    return _snapshots().filter(base_model=base_model, job__in=trained).first()


def _snapshots() -> QuerySet[Snapshot]:
    """With what asking and training further look at."""
    return Snapshot.objects.select_related(
        "job__dataset_version", "job__parent_snapshot__job"
    )
