"""Asks a job for a snapshot now. OpenAI has no such call."""

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Router
from pydantic import Field

from finetune_site.team.access import current_member
from jobs.api.errors import answers
from jobs.api.fields import Between, RequestObject
from jobs.api.job_shape import JobShape, find_job, show_job
from jobs.api.keys import worker
from jobs.services.jobs import request_snapshot, request_snapshots

router = Router(tags=["Snapshots"])


class SnapshotRequest(RequestObject):
    requests: Annotated[int | None, Between(1, 1_000_000)] = Field(
        None,
        description=(
            "How many have been asked for in all, of this job: sent again after a lost "
            "answer, it asks for none twice. Left out, it asks for one more."
        ),
    )


@router.post(
    "/fine_tuning/jobs/{job_id}/snapshots", response=answers(JobShape), auth=worker
)
def request_job_snapshot(
    request: HttpRequest, job_id: str, body: SnapshotRequest | None = None
) -> Any:
    """Takes a snapshot after the step that the job is at."""
    job, member = find_job(job_id), current_member(request)
    if body is None or body.requests is None:
        request_snapshot(member=member, job=job)
    else:
        request_snapshots(member=member, job=job, total=body.requests)
    return show_job(find_job(job_id))
