"""Adds a version to a dataset and hands its import to the worker."""

from django.db import transaction
from django.db.models import Max
from django_q.tasks import async_task

from datasets.models import Dataset, DatasetVersion

# An import of the largest file takes minutes, more than a task is given otherwise.
TASK_SECONDS = 3000


def add_version(*, dataset: Dataset, version: DatasetVersion) -> DatasetVersion:
    """Give the version the next number, save it, and have it imported on commit."""
    with transaction.atomic():
        # The lock lets one at a time count the versions there are.
        version.dataset = Dataset.objects.select_for_update().get(pk=dataset.pk)
        newest = dataset.versions.aggregate(newest=Max("number"))["newest"]
        version.number = (newest or 0) + 1
        version.save()
        enqueue_import(version)
    return version


def enqueue_import(version: DatasetVersion) -> None:
    pk = version.pk
    # Robust: the version is there for good, and the watcher enqueues it again.
    transaction.on_commit(
        lambda: async_task("datasets.tasks.import_version", pk, timeout=TASK_SECONDS),
        robust=True,
    )
