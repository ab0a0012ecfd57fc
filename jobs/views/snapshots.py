"""Snapshots of all jobs."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from jobs.models import Job, Snapshot

SNAPSHOTS_PER_PAGE = 50


@require_GET
def snapshots(request: HttpRequest) -> HttpResponse:
    """Newest first; `?job=` shows those of one job."""
    found = Snapshot.objects.select_related("job__dataset_version__dataset")
    job = None
    if (text := request.GET.get("job", "")).isdecimal():
        job = get_object_or_404(Job, pk=text)
        found = found.filter(job=job)
    page = Paginator(found, SNAPSHOTS_PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "snapshots/list.html", {"page": page, "job": job})
