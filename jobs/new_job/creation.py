"""A new job: what was asked for, checked and saved."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from datasets.models import DatasetVersion
from finetune_site.common.errors import UserError
from finetune_site.team.models import Member
from finetune_site.team.services import record
from jobs.engines.registry import LOCAL, check_same_place, get_engine
from jobs.models import Job, Snapshot
from jobs.new_job.preparation import enqueue_preparation
from jobs.new_job.suggest import default_name
from jobs.selectors.base_models import find_base_model, models_dir
from jobs.selectors.sources import is_base_replaced
from jobs.services.client_notes import clean_metadata, clean_suffix
from jobs.trainer.contract.settings import JobSettings

MAX_PROMPTS = 16
MAX_PROMPT_CHARACTERS = 8_000


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a person or a client asks for when a job shall be made."""

    # If it is empty, the job is named after its dataset and the time.
    name: str = ""
    dataset_version: DatasetVersion
    validation_version: DatasetVersion | None = None
    # Training starts from the snapshot if there is one, else from the base model.
    base_model: str = ""
    parent_snapshot: Snapshot | None = None
    engine: str = LOCAL.name
    when_engine_away: str = Job.WhenEngineAway.WAIT
    settings: JobSettings = JobSettings()
    # The names of settings that the site chooses once it knows the data.
    auto: tuple[str, ...] = ()
    # Watched prompts. If there are none, the site takes some from the data.
    prompts: Sequence[str] = ()
    # Notes of an API client: part of the fine-tuned model's name, and pairs of its own.
    suffix: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def create_job(new: NewJob, *, member: Member | None) -> Job:
    """Returns a saved job, which starts by itself once it is checked and has room.

    Raises UserError with the field at fault.
    """
    return save_job(draft_job(new), member=member)


def draft_job(new: NewJob, *, may_import: bool = False) -> Job:
    """Returns a job that can be saved and that its engine takes.

    The engine is asked, which may take seconds if it is elsewhere, so no transaction
    should be open. With `may_import` the job waits for datasets that are still being
    imported. Raises UserError with the field at fault.
    """
    job = checked_job(new, may_import=may_import)
    get_engine(job.engine).check_job(job)
    return job


def checked_job(new: NewJob, *, may_import: bool = False) -> Job:
    """Returns what `draft_job` does, but does not ask the engine."""
    parent = new.parent_snapshot
    get_engine(new.engine)
    job = Job(
        name=new.name.strip() or default_name(new.dataset_version),
        dataset_version=new.dataset_version,
        validation_version=new.validation_version,
        base_model=parent.base_model if parent else new.base_model,
        parent_snapshot=parent,
        engine=new.engine,
        when_engine_away=new.when_engine_away,
        auto=list(new.auto),
        prompts=clean_prompts(new.prompts),
        suffix=clean_suffix(new.suffix),
        metadata=clean_metadata(new.metadata),
        **asdict(new.settings),
    )
    check_model(job)
    for name in ("dataset_version", "validation_version"):
        if version := getattr(job, name):
            check_dataset(version, name, may_import=may_import)
    check_early_stop(job)
    check_fields(job)
    return job


def save_job(job: Job, *, member: Member | None) -> Job:
    """Saves a drafted job and has it prepared once the transaction has committed.

    Raises UserError when what it needs was deleted since it was drafted.
    """
    job.created_by = member
    try:
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
    except IntegrityError:
        raise UserError(
            "The dataset or the snapshot of this job was deleted just now. Choose "
            "another one."
        ) from None
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
            f"The base model {model.name} {model.why_not_ready(models_dir())} Or "
            "choose another one.",
            field="base_model",
        )
    if "max_tokens" not in job.auto and job.settings.max_tokens > model.context:
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
    if parent.is_here and is_base_replaced(parent):
        raise UserError(
            f"The files of {parent.base_model} were replaced since the snapshot "
            f"{parent} was trained on them, and what it learned means nothing on "
            "others. Put the former files back, or choose another one.",
            field="parent_snapshot",
        )


def check_early_stop(job: Job) -> None:
    if not job.settings.early_stop:
        return
    if job.validation_version is None:
        raise UserError(
            "A job can only stop early by its validation loss. Choose a validation "
            "dataset, or set this to 0.",
            field="early_stop",
        )
    if not job.settings.snapshots_every:
        raise UserError(
            "Stopping early counts snapshots, and there would be one at the end only. "
            "Set how often they are taken, or set this to 0.",
            field="early_stop",
        )


def check_dataset(version: DatasetVersion, name: str, *, may_import: bool) -> None:
    if version.status == DatasetVersion.Status.IMPORTING:
        if may_import:
            return
        raise UserError(
            f"{version} is still being imported. Wait until it is ready.", field=name
        )
    if version.status == DatasetVersion.Status.FAILED or not version.num_examples:
        raise UserError(
            f"{version} holds no examples that could be read. Upload it again.",
            field=name,
        )
    if version.teaches_nothing:
        raise UserError(
            f"Every text of {version} has loss weight 0, so there is nothing to learn "
            "from it. Give the texts to be learned a weight above 0, or choose another "
            "dataset.",
            field=name,
        )


def check_fields(job: Job) -> None:
    """Raises UserError for the first field beyond the limits that the model states."""
    try:
        job.full_clean(exclude=["created_by"])
    except ValidationError as error:
        name, messages = next(iter(error.message_dict.items()))
        raise UserError(" ".join(messages), field=name) from None
