"""The page of the snapshots of all jobs."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from finetune_site.common.errors import UserError
from finetune_site.common.parsing import small_int
from finetune_site.team.access import current_member, member_required
from jobs.models import Job, Snapshot
from jobs.services.snapshots import delete_snapshot

SNAPSHOTS_PER_PAGE = 50


@require_safe
def snapshots(request: HttpRequest) -> HttpResponse:
    """Lists the snapshots, the newest first. `?job=` shows those of one job."""
    found = Snapshot.objects.select_related("job__dataset_version__dataset")
    job = None
    if number := request.GET.get("job"):
        job = get_object_or_404(Job, pk=small_int(number))
        found = found.filter(job=job)
    page = Paginator(found, SNAPSHOTS_PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "snapshots/list.html", {"page": page, "job": job})


@require_POST
@member_required
def snapshot_delete(request: HttpRequest, pk: int) -> HttpResponse:
    snapshot = get_object_or_404(Snapshot.objects.select_related("job"), pk=pk)
    words = f"{snapshot.job}, step {snapshot.step:,}"
    try:
        delete_snapshot(member=current_member(request), snapshot=snapshot)
        messages.success(request, f"The snapshot of {words} is deleted.")
    except UserError as error:
        messages.error(request, error.message)
    job = small_int(request.POST.get("job", ""))
    return redirect(reverse("snapshots") + (f"?job={job}" if job else ""))
