"""Reads what the page of all jobs shows."""

from typing import Any

from django.core.paginator import Paginator
from django.db.models import Case, IntegerField, Value, When

from jobs.models import Job

JOBS_PER_PAGE = 50
# Running and waiting jobs come first.
GROUPS = Case(
    When(status=Job.Status.RUNNING, then=Value(0)),
    When(status__in=[Job.Status.STARTING, Job.Status.QUEUED], then=Value(1)),
    When(status__in=[Job.Status.VALIDATING, Job.Status.PAUSED], then=Value(2)),
    default=Value(3),
    output_field=IntegerField(),
)


def read_page(number: str) -> dict[str, Any]:
    """Returns a page of jobs by its number.

    `busy` tells whether a job may change by itself, so that the page asks often.
    """
    found = Job.objects.select_related("dataset_version__dataset", "created_by")
    ordered = found.alias(group=GROUPS).order_by("group", "-id")
    page = Paginator(ordered, JOBS_PER_PAGE).get_page(number)
    unfinished = Job.objects.exclude(status__in=[*Job.FINAL, Job.Status.PAUSED])
    return {"page": page, "busy": unfinished.exists()}
