"""Renames and deletes datasets."""

import shutil

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from datasets.models import Dataset
from datasets.services.uploads import check_name, name_taken
from finetune_site.common.errors import UserError
from finetune_site.team.models import Member
from finetune_site.team.services import record


def rename_dataset(*, member: Member, dataset: Dataset, name: str) -> Dataset:
    """Gives a dataset another name. Raises UserError if the name cannot be used."""
    before = dataset.name
    dataset.name = check_name(name, besides=dataset)
    if dataset.name == before:
        return dataset
    try:
        with transaction.atomic():
            dataset.save(update_fields=["name"])
            record(
                member=member, action="dataset.rename", subject=before, to=dataset.name
            )
    except IntegrityError:
        raise name_taken(name) from None
    return dataset


def delete_dataset(*, member: Member, dataset: Dataset) -> None:
    """Deletes a dataset with its versions and their files.

    Raises UserError if a job uses one of them.
    """
    folders = [version.folder for version in dataset.versions.all()]
    try:
        with transaction.atomic():
            record(member=member, action="dataset.delete", subject=dataset.name)
            dataset.delete()
    except ProtectedError as error:
        raise UserError(_in_use(dataset, len(error.protected_objects))) from None
    # The rows go first, since a folder without a row harms nobody.
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _in_use(dataset: Dataset, num_jobs: int) -> str:
    jobs = "1 job uses" if num_jobs == 1 else f"{num_jobs} jobs use"
    return (
        f"{dataset.name} stays: {jobs} it, and a job keeps what it was trained on. "
        "Rename it if it should no longer be mistaken for another one."
    )
