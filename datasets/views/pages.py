"""What the pages of a dataset share: its head, tabs and addresses."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.urls import reverse

from datasets.models import Dataset, DatasetVersion
from datasets.pages.forms import NameForm
from datasets.selectors import list_versions, newest_ready
from finetune_site.common.parsing import small_int
from finetune_site.team.access import current_member


def get_dataset(pk: int) -> Dataset:
    """Returns a dataset, or answers 404."""
    return get_object_or_404(Dataset, pk=pk)


def get_version(pk: int, number: int) -> DatasetVersion:
    """Returns a version of a dataset by its number, or answers 404."""
    versions = DatasetVersion.objects.select_related("dataset")
    return get_object_or_404(versions, dataset_id=pk, number=number)


def dataset_context(dataset: Dataset) -> dict[str, Any]:
    """Returns what every page of a dataset shows."""
    versions = list_versions(dataset)
    importing = next((v for v in versions if v.status == "importing"), None)
    return {
        "dataset": dataset,
        "versions": versions,
        "newest": versions[0] if versions else None,
        "ready": newest_ready(versions),
        "importing": importing,
        "waiting": next((v for v in versions if v.status == "columns"), None),
        "next_number": versions[0].number + 1 if versions else 1,
        "num_problems": sum(version.num_bad for version in versions[:1]),
        "name_form": NameForm(initial={"name": dataset.name}),
    }


def dataset_url(pk: int, **choices: Any) -> str:
    """Returns the address of the examples. Choices without a value are left out."""
    given = {key: value for key, value in choices.items() if value}
    return reverse("dataset", args=[pk]) + (f"?{urlencode(given)}" if given else "")


def version_url(version: DatasetVersion) -> str:
    """Returns where to go on with a version that was just added."""
    if version.status == DatasetVersion.Status.COLUMNS:
        args = [version.dataset_id, version.number]
        return reverse("dataset-columns", args=args)
    return dataset_url(version.dataset_id)


def back_to(request: HttpRequest, version: DatasetVersion) -> str:
    """Returns the address of the page of examples that a form was sent from.

    The form names it in hidden fields.
    """
    page = small_int(request.POST.get("page", ""))
    newest = newest_ready(list_versions(version.dataset))
    return dataset_url(
        version.dataset_id,
        version=None if newest == version else version.number,
        page=None if page == 1 else page,
        edit=small_int(request.POST.get("edit", "")),
    )


def may_change(request: HttpRequest) -> bool:
    """Returns whether whoever asks may change datasets."""
    return current_member(request).can_work
