"""Snapshots of all jobs."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from finetune_site.parsing import small_int
from jobs.models import Job, Snapshot

SNAPSHOTS_PER_PAGE = 50


@require_GET
def snapshots(request: HttpRequest) -> HttpResponse:
    """Newest first; `?job=` shows those of one job."""
    found = Snapshot.objects.select_related("job__dataset_version__dataset")
    job = None
    if number := request.GET.get("job"):
        job = get_object_or_404(Job, pk=small_int(number))
        found = found.filter(job=job)
    page = Paginator(found, SNAPSHOTS_PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "snapshots/list.html", {"page": page, "job": job})
