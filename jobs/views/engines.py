"""Where jobs run."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from jobs.machine import read_machine
from jobs.models import Job


@require_GET
def engines(request: HttpRequest) -> HttpResponse:
    here = Job.objects.filter(engine="local")
    context = {
        "machine": read_machine(),
        "running": list(here.filter(status=Job.Status.RUNNING)),
        "num_queued": here.filter(
            status__in=[Job.Status.QUEUED, Job.Status.STARTING]
        ).count(),
    }
    return render(request, "engines/list.html", context)
