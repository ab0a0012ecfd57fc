"""The examples of a version: the page with weights and tokens, and the download."""

from typing import Any

from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.shortcuts import render
from django.utils.text import slugify
from django.views.decorators.http import require_safe

from datasets.models import DatasetVersion
from datasets.pages.examples_page import examples_page
from datasets.pages.import_report import import_notes
from datasets.views.pages import dataset_context, get_dataset, get_version, may_change
from finetune_site.common.parsing import small_int
from finetune_site.common.streaming import file_chunks


@require_safe
def dataset(request: HttpRequest, pk: int) -> HttpResponse:
    context = dataset_context(get_dataset(pk))
    version = _chosen(context, request.GET.get("version", ""))
    context["tab"] = "examples"
    if version is None:
        return render(request, "datasets/waiting.html", context)
    wanted = request.GET.get("example", "").strip()
    page = examples_page(
        version,
        page=_whole(request.GET.get("page", "")),
        go_to=_whole(wanted),
        edit=_whole(request.GET.get("edit", "")) if may_change(request) else 0,
    )
    if wanted and not 1 <= _whole(wanted) <= version.num_examples:
        context["no_example"] = wanted[:80]
    context.update(page, version=version, notes=import_notes(version))
    return render(request, "datasets/examples.html", context)


@require_safe
def dataset_download(request: HttpRequest, pk: int, number: int) -> HttpResponseBase:
    version = get_version(pk, number)
    if version.status != DatasetVersion.Status.READY:
        raise Http404("That version is not ready.")
    name = f"{slugify(version.dataset.name) or 'dataset'}-{number}.jsonl"
    return StreamingHttpResponse(
        file_chunks(version.examples_path),
        content_type="application/jsonl; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Content-Length": str(version.num_bytes),
        },
    )


def _chosen(context: dict[str, Any], number: str) -> DatasetVersion | None:
    if not number:
        return context["ready"]
    for version in context["versions"]:
        if str(version.number) == number and version.status == "ready":
            return version
    raise Http404("There is no such version.")


def _whole(text: str) -> int:
    """Returns a number that somebody typed, such as 1,203, or 0 if it is none."""
    return small_int(text.replace(",", "").strip()) or 0
