"""Reads datasets: lists of them, their files, drafts and examples, and imports."""

from datetime import datetime
from typing import Any

from django.db.models import Count, Max, OuterRef, Prefetch, QuerySet, Subquery

from datasets.drafts.draft import Change, Draft
from datasets.models import Dataset, DatasetVersion, DraftChange
from datasets.stored.files import read_these
from datasets.stored.import_request import ImportRequest
from finetune_site.common.errors import UserError
from finetune_site.common.parsing import is_text
from jobs.trainer.text.examples import Segment

Status = DatasetVersion.Status


def list_datasets() -> QuerySet[Dataset]:
    """Returns all datasets with their versions, the newest first in both."""
    versions = DatasetVersion.objects.select_related("created_by").order_by("-number")
    return (
        Dataset.objects.prefetch_related(Prefetch("versions", queryset=versions))
        .annotate(num_versions=Count("versions"))
        .order_by("-id")
    )


def list_versions(dataset: Dataset) -> list[DatasetVersion]:
    """Returns a dataset's versions, the newest first, with what the pages tell of them.

    `num_jobs` counts the jobs that train on a version or are validated with it;
    `num_changes` is the length of its draft.
    """
    versions = dataset.versions.select_related("created_by", "parent")
    return list(
        versions.annotate(
            num_jobs=_number_of("jobs") + _number_of("validating_jobs"),
            num_changes=_number_of("draft_changes"),
        ).order_by("-number")
    )


def _number_of(related: str) -> Subquery:
    """Counts the rows of one relation by themselves: joined they would multiply."""
    same = DatasetVersion.objects.filter(pk=OuterRef("pk"))
    return Subquery(same.annotate(found=Count(related)).values("found"))


def api_files() -> QuerySet[DatasetVersion]:
    """Returns the versions that are files of the API: those not deleted there."""
    return DatasetVersion.objects.filter(file_deleted=False).select_related("dataset")


def find_file(uid: str, *, field: str) -> DatasetVersion:
    """Returns the file of that id. Raises UserError, at `field`, if there is none."""
    version = api_files().filter(uid=uid).first() if is_text(uid) else None
    if version is None:
        raise UserError(
            f"There is no file {uid[:100]!r} here, or it was deleted. Upload it first "
            "and send the id of the answer.",
            field=field,
        )
    return version


def newest_ready(versions: list[DatasetVersion]) -> DatasetVersion | None:
    """Returns the first version that is ready from a list with the newest first."""
    return next((v for v in versions if v.status == Status.READY), None)


def draft_of(version: DatasetVersion) -> Draft:
    """Returns the changes of loss weights that are laid over a version."""
    rows = DraftChange.objects.filter(version=version)
    return Draft(
        Change(*row) for row in rows.values_list("id", "example", "segment", "weight")
    )


def last_saving_change(version: DatasetVersion) -> int:
    """Returns the id of the newest change that is being saved into a version, or 0."""
    saving = DatasetVersion.objects.filter(parent=version, status=Status.IMPORTING)
    return max(
        (ImportRequest.read(child.folder).last_change for child in saving), default=0
    )


def example_of(version: DatasetVersion, example: int) -> list[Segment]:
    """Returns one example as it is in the version, without its draft.

    `example` counts from 0. Raises UserError if the version has fewer examples.
    """
    segments = next(read_these(version.examples_path, [example]), None)
    if segments is None:
        raise UserError(
            f"There is no example {example + 1:,}: {version} has "
            f"{version.num_examples:,}."
        )
    return segments


def progress_of(dataset: Dataset) -> dict[str, Any]:
    """Returns how far the newest import is, as the page of a dataset asks for it.

    `done` and `total` are bytes.
    """
    importing = dataset.versions.filter(status=Status.IMPORTING)
    version = importing.order_by("-number").first()
    if version is None:
        return {"importing": False}
    return {
        "importing": True,
        "version": version.number,
        "done": version.bytes_done,
        "total": version.bytes_total,
    }


def last_import_activity() -> datetime | None:
    """Returns when the worker of an import last showed a sign of life.

    Imports that are over do not count; None if there is no other.
    """
    importing = DatasetVersion.objects.filter(status=Status.IMPORTING)
    newest: datetime | None = importing.aggregate(at=Max("claimed_at"))["at"]
    return newest
