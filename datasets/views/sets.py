"""Pages of datasets as a whole: list, upload, versions, report, rename, delete."""

from http import HTTPStatus
from io import StringIO

import jsonlines
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import (
    require_http_methods,
    require_POST,
    require_safe,
)

from datasets import services
from datasets.models import Dataset, DatasetVersion
from datasets.pages.forms import NameForm, UploadForm
from datasets.pages.import_report import import_notes
from datasets.selectors import list_datasets, list_versions, progress_of
from datasets.views.pages import (
    dataset_context,
    dataset_url,
    get_dataset,
    get_version,
    version_url,
)
from finetune_site.common.errors import UserError
from finetune_site.common.forms import with_link
from finetune_site.team.access import current_member, member_required
from finetune_site.team.one_deed import one_deed

# Of a form and of what is typed into it.
METHODS = ["GET", "HEAD", "POST"]
REFUSED = HTTPStatus.UNPROCESSABLE_ENTITY


@require_safe
def datasets(request: HttpRequest) -> HttpResponse:
    return render(request, "datasets/list.html", {"datasets": list_datasets()})


@require_http_methods(METHODS)
@member_required
@one_deed
def dataset_new(request: HttpRequest) -> HttpResponse:
    return _upload(request, None)


@require_http_methods(METHODS)
@member_required
@one_deed
def dataset_upload(request: HttpRequest, pk: int) -> HttpResponse:
    return _upload(request, get_dataset(pk))


@require_safe
def dataset_versions(request: HttpRequest, pk: int) -> HttpResponse:
    context = dataset_context(get_dataset(pk))
    return render(request, "datasets/versions.html", {**context, "tab": "versions"})


@require_safe
def dataset_report(request: HttpRequest, pk: int) -> HttpResponse:
    """Reports on the version asked for, or on the newest that came from a file."""
    context = dataset_context(get_dataset(pk))
    number = request.GET.get("version", "")
    uploads = [version for version in context["versions"] if not version.parent_id]
    chosen = [version for version in uploads if str(version.number) == number]
    report = next(iter(chosen or uploads), None)
    return render(
        request,
        "datasets/report.html",
        {
            **context,
            "tab": "report",
            "report": report,
            "uploads": uploads,
            "notes": import_notes(report) if report else [],
        },
    )


@require_safe
def dataset_problems(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """Sends the lines that were left out, one object a line, to mend them."""
    text = StringIO()
    with jsonlines.Writer(text) as writer:
        writer.write_all(get_version(pk, number).problems)
    return HttpResponse(
        text.getvalue(),
        content_type="application/jsonl; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="left-out.jsonl"'},
    )


@require_safe
def dataset_progress(request: HttpRequest, pk: int) -> JsonResponse:
    return JsonResponse(progress_of(get_dataset(pk)))


@require_POST
@member_required
def dataset_rename(request: HttpRequest, pk: int) -> HttpResponse:
    dataset = get_dataset(pk)
    form = NameForm(request.POST)
    try:
        if form.is_valid():
            name = form.cleaned_data["name"]
            services.rename_dataset(
                member=current_member(request), dataset=dataset, name=name
            )
    except UserError as error:
        messages.error(request, with_link(error))
    return redirect(dataset_url(pk))


@require_POST
@member_required
def dataset_delete(request: HttpRequest, pk: int) -> HttpResponse:
    dataset = get_dataset(pk)
    try:
        services.delete_dataset(member=current_member(request), dataset=dataset)
    except UserError as error:
        messages.error(request, error.message)
        return redirect(dataset_url(pk))
    messages.success(request, f"{dataset.name} is deleted.")
    return redirect("datasets")


def _upload(request: HttpRequest, dataset: Dataset | None) -> HttpResponse:
    """Shows the form and takes it. The script that shows progress is sent JSON."""
    form = UploadForm(request.POST or None, request.FILES or None)
    wants_json = request.headers.get("Accept") == "application/json"
    if request.method == "POST" and form.is_valid():
        version = _take_in(request, form, dataset)
        if version:
            url = version_url(version)
            return JsonResponse({"url": url}) if wants_json else redirect(url)
    if wants_json:
        refusal = {"errors": form.errors, "links": form.links}
        return JsonResponse(refusal, status=REFUSED)
    versions = list_versions(dataset) if dataset else []
    context = {"form": form, "dataset": dataset, "newest": versions[:1]}
    status = REFUSED if request.method == "POST" else HTTPStatus.OK
    return render(request, "datasets/upload.html", context, status=status)


def _take_in(
    request: HttpRequest, form: UploadForm, dataset: Dataset | None
) -> DatasetVersion | None:
    choices = form.cleaned_data
    try:
        return services.import_dataset_file(
            member=current_member(request),
            name=choices["name"],
            upload=choices["file"],
            dataset=dataset,
            text_split=choices["text_split"],
            joiner=choices["joiner"],
            note=choices["note"],
            can_choose=True,
        )
    except UserError as error:
        form.add_user_error(error)
        return None
