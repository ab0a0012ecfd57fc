"""The first values of the form of a new job, and a job's settings in words."""

from collections.abc import Mapping
from typing import Any

from django.http import QueryDict

from datasets.models import DatasetVersion
from datasets.validation_names import first_for_training, validation_of
from finetune_site.common.parsing import small_int
from finetune_site.common.wording import count, counted
from jobs.engines.registry import (
    engine_title,
    engine_titles,
    engine_to_go_on,
    remote_names,
)
from jobs.models import Job, Snapshot
from jobs.new_job.form import SNAPSHOT, selectable_versions
from jobs.new_job.suggest import default_name, next_seed, suggest_settings
from jobs.selectors.base_models import base_learning_rate, find_base_model
from jobs.trainer.contract.runfolder import RunFolder
from jobs.trainer.contract.settings import SETTINGS, Setting
from jobs.trainer.contract.spec import Spec, SpecError

DEFAULT_MODEL = "tiny"
# Fields that "Train again" takes over.
KEPT = (
    "dataset_version",
    "validation_version",
    "parent_snapshot",
    "engine",
    "when_engine_away",
    *SETTINGS,
    "prompts",
)


def from_link(query: QueryDict) -> dict[str, Any]:
    """Returns the form's first values for a link to it.

    `?like=` names a job to repeat, `?snapshot=` one to train further, `?dataset=` what
    to learn from. Names of things that are gone are ignored.
    """
    if like := _job(query.get("like", "")):
        return _like(like)
    snapshot = Snapshot.objects.filter(uid=query.get("snapshot", "")).first()
    version = _version(query.get("dataset", "")) or (
        snapshot.job.dataset_version
        if snapshot
        else first_for_training(selectable_versions([]))
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
        # A snapshot can be trained further only where its weights lie.
        values["engine"] = engine_to_go_on(snapshot)
        # Another order of rows than the parent's, which it knows by heart.
        values["seed"] = next_seed(snapshot.job)
        values["validation_version"] = snapshot.job.validation_version
        values["prompts"] = snapshot.job.prompts
    return values


def suggest(values: dict[str, Any]) -> dict[str, Any]:
    """Returns settings that suit a dataset and a base model, and a name for the job."""
    version, base_model = values.get("dataset_version"), values.get("base_model")
    model = find_base_model(str(base_model))
    if not version or not model:
        # The fields of the form need values all the same.
        return in_fields({name: one.default for name, one in SETTINGS.items()})
    paired = validation_of(version, selectable_versions([]))
    return {
        **in_fields(suggest_settings(version, model.name)),
        "name": default_name(version),
        "validation_version": paired.pk if paired else "",
    }


def in_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Returns values as fields show them: 1, not 1.0."""
    return {
        name: f"{value:g}" if isinstance(value, float) else value
        for name, value in values.items()
    }


def resolve(initial: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a form's first values as its cleaned data would be."""
    values = dict(initial)
    if values.get("base_model") == SNAPSHOT:
        parent = Snapshot.objects.get(uid=values["parent_snapshot"])
        values["base_model"] = parent.base_model
        values["parent_snapshot"] = parent
    return values


def describe(job: Job) -> list[tuple[str, str]]:
    """Returns all settings of a job as pairs of a label and a value in words."""
    start = str(job.parent_snapshot) if job.parent_snapshot else job.base_model
    return [
        ("Dataset", str(job.dataset_version)),
        ("Validation dataset", str(job.validation_version or "none")),
        ("Start from", start),
        ("Engine", engine_title(job.engine)),
        *_absence(job),
        *((one.short_label, _setting_in_words(job, one)) for one in SETTINGS.values()),
        ("Id", job.uid),
    ]


def _setting_in_words(job: Job, one: Setting) -> str:
    if one.name in job.auto:
        return LEFT
    value = getattr(job, one.name)
    if one.choices:
        return one.choices[value]
    if one.zero and not value:
        return one.zero
    number = counted(value, one.unit_word) if one.unit_word else count(value)
    words = one.shown.format(value=value, number=number)
    if one.name == "learning_rate_scale" and (rate := _learning_rate(job)):
        words += f" (rate {rate:.2g})"
    return words


LEFT = "chosen once the tokens are counted"


def _learning_rate(job: Job) -> float | None:
    """Returns the rate that the trainer was given, else what it would be given now.

    None: there is no such base model any more.
    """
    try:
        return Spec.load(RunFolder(job.folder).spec).learning_rate
    except SpecError:
        model = find_base_model(job.base_model)
    if model is None:
        return None
    settings = job.settings
    return base_learning_rate(model, settings.method) * settings.learning_rate_scale


def _absence(job: Job) -> list[tuple[str, str]]:
    """Returns what the job does while its engine is away: this machine never is."""
    if job.engine not in remote_names():
        return []
    fails = job.when_engine_away == Job.WhenEngineAway.FAIL
    return [("While it is away", "fails after two minutes" if fails else "waits")]


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


def _version(dataset: str) -> DatasetVersion | None:
    return selectable_versions([]).filter(dataset=small_int(dataset)).first()
