"""Finds the model that a client means by a name."""

from dataclasses import dataclass

from django.db.models import QuerySet

from finetune_site.common.errors import UserError
from finetune_site.common.ids import JOB_PREFIX
from finetune_site.common.parsing import is_text
from jobs.models import Job, Snapshot
from jobs.selectors.base_models import base_models

TUNED_PREFIX = "ft:"
LATEST = ":latest"
# No name is longer, so databases need not look for one that is.
MAX_NAME_CHARACTERS = 300


class UnknownModelError(UserError):
    """No model has that name."""


@dataclass(frozen=True)
class ModelChoice:
    """The model that a client asks for."""

    # The name as the client wrote it.
    name: str
    base_model: str
    # The base model itself has none.
    snapshot: Snapshot | None


def find_model(name: str, *, engine: str = "") -> ModelChoice:
    """Returns the model of that name. Raises UnknownModelError if there is none.

    A name is that of a base model (in any case), a snapshot's uid, the fine-tuned model
    of a job, or `<name>:latest`, where the name is a job's, its suffix, or a base
    model's. The base model may be one that is not on this machine. With an engine, the
    latest is the latest there, if it has one.
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
    """Returns the name of what a job made.

    It means the best snapshot if one is marked, and else the last one. The name always
    has four colons, since clients split it there.
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
    """Returns the snapshot that the name of a job's fine-tuned model means."""
    return _snapshots().filter(job=job).order_by("-best", "-step").first()


def _find_any_case(name: str) -> str | None:
    """Returns the base model's own name: clients write `Ada` for `ada`."""
    # A base model's name holds no colon. Most others do, and need no look at folders.
    if ":" in name:
        return None
    names = [model.name for model in base_models()]
    if name in names:
        return name
    wanted = name.casefold()
    return next((known for known in names if known.casefold() == wanted), None)


def _is_storable(name: str) -> bool:
    """Returns whether a database can look for the name."""
    return is_text(name) and len(name) <= MAX_NAME_CHARACTERS


def _of_fine_tuned(name: str) -> Snapshot | None:
    job = Job.objects.filter(uid=JOB_PREFIX + name.rpartition(":")[2]).first()
    if job is None or fine_tuned_model(job) != name:
        return None
    return _chosen_snapshot(job)


def _latest(name: str, **jobs: str) -> Snapshot | None:
    """Returns the last snapshot of the newest job of that suffix or name.

    If there is no such job, returns the newest of the base model of that name.
    """
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
    """Returns snapshots with the rows that asking and training further look at."""
    return Snapshot.objects.select_related(
        "job__dataset_version", "job__parent_snapshot__job"
    )
