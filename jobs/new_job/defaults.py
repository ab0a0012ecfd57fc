"""What the form of a new job begins with, and the settings of one in words."""

from collections.abc import Mapping
from typing import Any

from django.db.models import Q
from django.http import QueryDict

from datasets.models import DatasetVersion
from finetune_site.common.parsing import small_int
from finetune_site.common.wording import count
from jobs.engines.registry import (
    engine_title,
    engine_titles,
    engine_to_go_on,
    remote_names,
)
from jobs.models import Job, Snapshot
from jobs.new_job.form import SNAPSHOT, selectable_versions
from jobs.new_job.suggest import default_name, suggest_settings
from jobs.selectors.base_models import base_learning_rate, find_base_model
from jobs.trainer.contract.runfolder import RunFolder
from jobs.trainer.contract.spec import Spec, SpecError

DEFAULT_MODEL = "tiny"
# Fields that "Train again" takes over.
KEPT = (
    "dataset_version",
    "validation_version",
    "parent_snapshot",
    "engine",
    "when_engine_away",
    "method",
    "epochs",
    "batch_size",
    "max_tokens",
    "learning_rate_scale",
    "seed",
    "prompts",
    "completions_every",
    "num_completions",
    "snapshots_every",
    "early_stop",
)


def from_link(query: QueryDict) -> dict[str, Any]:
    """?like= a job, ?snapshot= to train further, ?dataset=; what is gone is ignored."""
    if like := _job(query.get("like", "")):
        return _like(like)
    snapshot = Snapshot.objects.filter(uid=query.get("snapshot", "")).first()
    version = _version(query.get("dataset", "")) or (
        snapshot.job.dataset_version if snapshot else _newest_version()
    )
    base_model = snapshot.base_model if snapshot else DEFAULT_MODEL
    values: dict[str, Any] = {
        "dataset_version": version,
        "base_model": SNAPSHOT if snapshot else base_model,
        "parent_snapshot": snapshot.uid if snapshot else None,
        "engine": "local",
        **suggest({"dataset_version": version, "base_model": base_model}),
    }
    if snapshot:
        values["method"] = snapshot.method
        # Where it lies is where it can be trained further.
        values["engine"] = engine_to_go_on(snapshot)
        # Another order of rows than the parent's, which it knows by heart.
        values["seed"] = snapshot.job.seed + 1
        values["validation_version"] = snapshot.job.validation_version
        values["prompts"] = snapshot.job.prompts
    return values


def suggest(values: dict[str, Any]) -> dict[str, Any]:
    """Settings that suit a dataset and a base model, and a name for the job."""
    version, base_model = values.get("dataset_version"), values.get("base_model")
    model = find_base_model(str(base_model))
    if not version or not model:
        return dict(PLAIN)
    settings = suggest_settings(version, model.name)
    # 1, not 1.0, in a field.
    settings["learning_rate_scale"] = f"{settings['learning_rate_scale']:g}"
    return {
        **settings,
        "name": default_name(version),
        "validation_version": _validation_of(version),
    }


# Without a dataset: the form's fields still want values.
PLAIN = {
    "method": Job.Method.FULL.value,
    "epochs": 4,
    "batch_size": 1,
    "max_tokens": 256,
    "learning_rate_scale": 1,
    "seed": 1,
    "completions_every": 10,
    "num_completions": 1,
    "snapshots_every": 20,
    "early_stop": 0,
}


def resolve(initial: Mapping[str, Any]) -> dict[str, Any]:
    """A form's beginning, as its cleaned data would be."""
    values = dict(initial)
    if values.get("base_model") == SNAPSHOT:
        parent = Snapshot.objects.get(uid=values["parent_snapshot"])
        values["base_model"] = parent.base_model
        values["parent_snapshot"] = parent
    return values


def describe(job: Job) -> list[tuple[str, str]]:
    """All settings as facts."""
    start = str(job.parent_snapshot) if job.parent_snapshot else job.base_model
    scale = f"× {job.learning_rate_scale:g}"
    if rate := _learning_rate(job):
        scale += f" (rate {rate:.2g})"
    facts = [
        ("Dataset", str(job.dataset_version)),
        ("Validation dataset", str(job.validation_version or "none")),
        ("Start from", start),
        ("Engine", engine_title(job.engine)),
        *_absence(job),
        ("What changes", job.get_method_display()),
        ("Epochs", count(job.epochs)),
        ("Batch size", f"{_units(job.batch_size, 'row')} a step"),
        ("Max tokens", f"{count(job.max_tokens)} a row"),
        ("Learning-rate scale", scale),
        ("Seed", str(job.seed)),
        ("Completions every", _every(job.completions_every)),
        ("Number of completions", f"{job.num_completions} a prompt"),
        ("Snapshots every", _every(job.snapshots_every)),
        ("Stop early", _patience(job.early_stop)),
        ("Id", job.uid),
    ]
    left = {LABELS[name] for name in job.auto}
    return [(label, LEFT if label in left else value) for label, value in facts]


# Of settings that the site may be asked to choose.
LABELS = {
    "method": "What changes",
    "epochs": "Epochs",
    "batch_size": "Batch size",
    "max_tokens": "Max tokens",
    "learning_rate_scale": "Learning-rate scale",
    "seed": "Seed",
    "completions_every": "Completions every",
    "num_completions": "Number of completions",
    "snapshots_every": "Snapshots every",
}
LEFT = "chosen once the tokens are counted"


def _learning_rate(job: Job) -> float | None:
    """What the trainer was given, else what it would be given now."""
    try:
        return Spec.load(RunFolder(job.folder).spec).learning_rate
    except SpecError:
        model = find_base_model(job.base_model)
    if model is None:
        return None
    return base_learning_rate(model, job.method) * job.learning_rate_scale


def _absence(job: Job) -> list[tuple[str, str]]:
    """This machine is never away."""
    if job.engine not in remote_names():
        return []
    fails = job.when_engine_away == Job.WhenEngineAway.FAIL
    return [("While it is away", "fails after two minutes" if fails else "waits")]


def _every(steps: int) -> str:
    return _units(steps, "step") if steps else "never"


def _patience(snapshots: int) -> str:
    if not snapshots:
        return "never"
    return f"after {_units(snapshots, 'snapshot')} without a better validation loss"


def _units(number: int, unit: str) -> str:
    return f"{count(number)} {unit}{'' if number == 1 else 's'}"


def _like(job: Job) -> dict[str, Any]:
    values = {name: getattr(job, name) for name in KEPT}
    if job.engine not in engine_titles():
        values["engine"] = "local"
    parent = job.parent_snapshot
    return {
        **values,
        "base_model": SNAPSHOT if parent else job.base_model,
        "parent_snapshot": parent.uid if parent else None,
        "name": default_name(job.dataset_version),
    }


def _job(text: str) -> Job | None:
    number = small_int(text)
    return Job.objects.filter(pk=number).first() if number else None


def _newest_version() -> DatasetVersion | None:
    """The newest dataset; one for validation only if there is no other."""
    versions = selectable_versions([])
    meant_for_learning = versions.exclude(dataset__name__iendswith="validation")
    return meant_for_learning.first() or versions.first()


def _validation_of(version: DatasetVersion) -> int | str:
    """`Jokes` is checked with `Jokes, validation`, when a team names them so."""
    names = [f"{version.dataset.name}{joint}validation" for joint in (", ", " ", "-")]
    by_name = Q()
    for name in names:
        by_name |= Q(dataset__name__iexact=name)
    paired = selectable_versions([]).filter(by_name).first()
    return paired.pk if paired else ""


def _version(dataset: str) -> DatasetVersion | None:
    return selectable_versions([]).filter(dataset=small_int(dataset)).first()
