"""Adds a version to a dataset and hands its import to the worker."""

from django.db import transaction
from django.db.models import Max
from django_q.tasks import async_task

from datasets.models import Dataset, DatasetVersion

# An import of the largest file takes minutes, more than a task is given otherwise.
TASK_SECONDS = 3000


def add_version(*, dataset: Dataset, version: DatasetVersion) -> DatasetVersion:
    """Gives the version the next number and saves it; imports begin on commit."""
    with transaction.atomic():
        # The lock lets only one at a time count the versions.
        version.dataset = Dataset.objects.select_for_update().get(pk=dataset.pk)
        newest = dataset.versions.aggregate(newest=Max("number"))["newest"]
        version.number = (newest or 0) + 1
        version.save()
        if version.status == DatasetVersion.Status.IMPORTING:
            enqueue_import(version)
    return version


def enqueue_import(version: DatasetVersion) -> None:
    """Has the worker import a version once this transaction has committed."""
    pk = version.pk
    # Errors are swallowed (robust), since the version is saved and the watcher enqueues
    # it again.
    transaction.on_commit(
        lambda: async_task("datasets.tasks.import_version", pk, timeout=TASK_SECONDS),
        robust=True,
    )
