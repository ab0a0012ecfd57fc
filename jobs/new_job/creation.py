"""A new job: what was asked for, checked and saved."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from datasets.models import DatasetVersion
from finetune_site.common.errors import UserError
from finetune_site.team.models import Member
from finetune_site.team.services import record
from jobs.engines.registry import check_same_place, get_engine
from jobs.models import Job, Snapshot
from jobs.new_job.preparation import enqueue_preparation
from jobs.new_job.suggest import default_name
from jobs.selectors.base_models import find_base_model, models_dir
from jobs.services.client_notes import clean_metadata, clean_suffix

MAX_PROMPTS = 16
MAX_PROMPT_CHARACTERS = 8_000


def create_job(
    *, member: Member | None, engine_asked: bool = False, **asked: Any
) -> Job:
    """A new job, which starts by itself once it is checked and there is room.

    `asked`: see `draft_job`. `engine_asked`: it was asked before whether it can, which
    may take seconds if it is elsewhere; no transaction should wait for that.
    """
    job = draft_job(**asked)
    if not engine_asked:
        get_engine(job.engine).check_job(job)
    job.created_by = member
    with transaction.atomic():
        job.save()
        record(
            member=member,
            action="job.create",
            subject=str(job),
            job=job.uid,
            dataset=str(job.dataset_version),
            base_model=job.base_model,
        )
        transaction.on_commit(lambda: enqueue_preparation(job.pk))
    return job


def draft_job(
    *,
    name: str,
    dataset_version: DatasetVersion,
    base_model: str = "",
    parent_snapshot: Snapshot | None = None,
    validation_version: DatasetVersion | None = None,
    engine: str = "local",
    prompts: Sequence[str] = (),
    suffix: str = "",
    metadata: Mapping[str, str] | None = None,
    may_import: bool = False,
    **options: Any,
) -> Job:
    """A job that could be saved.

    `options`: method, epochs, batch_size, max_tokens, learning_rate_scale, seed,
    completions_every, num_completions, snapshots_every, early_stop, when_engine_away,
    and `auto`, which names those of them that the site shall choose. With `may_import`
    the job waits for datasets that are still being imported. UserError names the field.
    """
    if parent_snapshot:
        base_model = parent_snapshot.base_model
    get_engine(engine)
    job = Job(
        name=name.strip() or default_name(dataset_version),
        dataset_version=dataset_version,
        validation_version=validation_version,
        base_model=base_model,
        parent_snapshot=parent_snapshot,
        engine=engine,
        prompts=clean_prompts(prompts),
        suffix=clean_suffix(suffix),
        metadata=clean_metadata(metadata or {}),
        **options,
    )
    check_model(job)
    check_dataset(dataset_version, "dataset_version", may_import=may_import)
    if validation_version:
        check_dataset(validation_version, "validation_version", may_import=may_import)
    check_early_stop(job)
    check_fields(job)
    return job


def clean_prompts(prompts: Sequence[str]) -> list[str]:
    if len(prompts) > MAX_PROMPTS:
        raise UserError(
            f"{len(prompts)} prompts are too many; give {MAX_PROMPTS} at most.",
            field="prompts",
        )
    for number, prompt in enumerate(prompts, start=1):
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise UserError(
                f"Prompt {number} has {len(prompt):,} characters; shorten it to "
                f"{MAX_PROMPT_CHARACTERS:,}.",
                field="prompts",
            )
        if "\0" in prompt:
            raise UserError(
                f"Prompt {number} holds a zero character; delete it.", field="prompts"
            )
    return list(dict.fromkeys(prompts))


def check_model(job: Job) -> None:
    model = find_base_model(job.base_model)
    if model is None:
        raise UserError(
            f"There is no base model {job.base_model}; choose one of the list.",
            field="base_model",
        )
    if not model.is_ready(models_dir()):
        raise UserError(
            f"The base model {model.name} is not on this machine; choose another one.",
            field="base_model",
        )
    if job.max_tokens and job.max_tokens > model.context:
        raise UserError(
            f"{model.name} reads at most {model.context:,} tokens at a time; set max "
            f"tokens to {model.context:,} or less.",
            field="max_tokens",
        )
    check_parent(job)


def check_parent(job: Job) -> None:
    parent = job.parent_snapshot
    if parent is None:
        return
    check_same_place(job)
    if parent.is_here and not parent.folder.is_dir():
        raise UserError(
            f"The files of the snapshot {parent} are gone. Choose another one.",
            field="parent_snapshot",
        )


def check_early_stop(job: Job) -> None:
    if not job.early_stop:
        return
    if job.validation_version is None:
        raise UserError(
            "A job can only stop early by its validation loss. Choose a validation "
            "dataset, or set this to 0.",
            field="early_stop",
        )
    if not job.snapshots_every:
        raise UserError(
            "Stopping early counts snapshots, and there would be one at the end only. "
            "Set how often they are taken, or set this to 0.",
            field="early_stop",
        )


def check_dataset(
    version: DatasetVersion, field: str, *, may_import: bool = False
) -> None:
    if version.status == DatasetVersion.Status.IMPORTING:
        if may_import:
            return
        raise UserError(
            f"{version} is still being imported. Wait until it is ready.", field=field
        )
    if version.status == DatasetVersion.Status.FAILED or not version.num_examples:
        raise UserError(
            f"{version} holds no examples that could be read. Upload it again.",
            field=field,
        )


def check_fields(job: Job) -> None:
    """The limits of the single fields, as the model states them."""
    try:
        job.full_clean(exclude=["created_by"])
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise UserError(" ".join(messages), field=field) from None
