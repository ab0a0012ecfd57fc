"""Turns a job's row into the spec that its trainer reads."""

from dataclasses import asdict
from pathlib import Path

from datasets.models import DatasetVersion
from jobs.models import Job
from jobs.selectors.base_models import (
    base_learning_rate,
    get_base_model,
    models_dir,
)
from jobs.selectors.sources import model_source
from jobs.trainer.contract.spec import DataSource, Spec
from jobs.trainer.rows.token_cache import cache_folder


def build_spec(job: Job) -> Spec:
    """Returns the spec of a job.

    The same row gives the same training, so it does not matter who writes it first.
    """
    base_model = get_base_model(job.base_model)
    parent = job.parent_snapshot
    # A snapshot on an engine elsewhere is known only there, so the plan is made with
    # its base model.
    source = model_source(job.base_model, parent if parent and parent.is_here else None)
    # Snapshots have the tokenizer of their base model.
    tokenizer_folder = base_model.folder(models_dir())
    validation = job.validation_version
    return Spec(
        job=job.uid,
        model=source,
        train=data_source(job.dataset_version, tokenizer_folder),
        validation=data_source(validation, tokenizer_folder) if validation else None,
        parent_snapshot=parent.uid if parent else None,
        base_learning_rate=base_learning_rate(base_model, job.settings.method),
        prompts=tuple(job.prompts),
        **asdict(job.settings),
        tokens_per_second=known_speed(job),
    )


def known_speed(job: Job) -> float | None:
    """Returns the tokens a second of the engine's last job of this kind, if any."""
    alike = Job.objects.filter(
        engine=job.engine, base_model=job.base_model, method=job.settings.method
    )
    measured = alike.exclude(pk=job.pk).exclude(tokens_per_second=None)
    return measured.values_list("tokens_per_second", flat=True).first()


def data_source(version: DatasetVersion, tokenizer_folder: Path) -> DataSource:
    """Returns where the trainer finds a version's examples and their tokens."""
    return DataSource(
        version=version.uid,
        sha256=version.sha256,
        examples=str(version.examples_path),
        tokens=str(cache_folder(version.folder, tokenizer_folder)),
    )
