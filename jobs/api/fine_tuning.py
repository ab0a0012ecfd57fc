"""Fine-tuning jobs: /v1/fine_tuning/jobs."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest
from ninja import Router

from finetune_site.team.access import current_member
from jobs.api.errors import ApiError, answers
from jobs.api.first_answer import answer_once
from jobs.api.job_request import JobRequest, asked_for, client_names
from jobs.api.job_shape import JobShape, find_job, show_job, shown_jobs
from jobs.api.keys import worker
from jobs.api.metadata_filter import PARAMETER, with_metadata
from jobs.api.paging import Limit, Order, Page, page_of
from jobs.models import Job
from jobs.new_job.creation import draft_job, save_job
from jobs.services.jobs import pause_job, resume_job, stop_job

router = Router(tags=["Fine-tuning"])


def draft(body: JobRequest) -> Job:
    """Returns the job that is asked for, which may wait for its files.

    Its engine may be elsewhere, and slow to say whether it can run the job. Raises
    UserError with the client's name of the field at fault.
    """
    with client_names():
        return draft_job(asked_for(body), may_import=True)


@router.post("/fine_tuning/jobs", response=answers(JobShape), auth=worker)
def create_fine_tuning_job(request: HttpRequest, body: JobRequest) -> Any:
    """Trains a model on a file. The job starts by itself when there is room."""
    member = current_member(request)

    def make(job: Job) -> dict[str, Any]:
        with client_names():
            save_job(job, member=member)
        return show_job(find_job(job.uid))

    return answer_once(request, prepare=lambda: draft(body), make=make)


@router.get(
    "/fine_tuning/jobs",
    response=answers(Page[JobShape]),
    openapi_extra={"parameters": [PARAMETER]},
)
def list_fine_tuning_jobs(
    request: HttpRequest,
    limit: Limit = 20,
    after: str | None = None,
    order: Order = "desc",
) -> Any:
    """Returns the jobs of the whole team, the newest first."""
    jobs = with_metadata(shown_jobs(), request.GET)
    return page_of(jobs, show_job, limit=limit, after=after, order=order)


@router.get("/fine_tuning/jobs/{job_id}", response=answers(JobShape))
def get_fine_tuning_job(request: HttpRequest, job_id: str) -> Any:
    """Returns a job."""
    return show_job(find_job(job_id))


@router.post(
    "/fine_tuning/jobs/{job_id}/cancel", response=answers(JobShape), auth=worker
)
def cancel_fine_tuning_job(request: HttpRequest, job_id: str) -> Any:
    """Ends a job. If it has learned something, it leaves a last snapshot."""
    return changed(request, job_id, stop_job)


@router.post(
    "/fine_tuning/jobs/{job_id}/pause", response=answers(JobShape), auth=worker
)
def pause_fine_tuning_job(request: HttpRequest, job_id: str) -> Any:
    """Pauses a job, which leaves its place to others until `resume` goes on with it."""
    return changed(request, job_id, pause_job)


@router.post(
    "/fine_tuning/jobs/{job_id}/resume", response=answers(JobShape), auth=worker
)
def resume_fine_tuning_job(request: HttpRequest, job_id: str) -> Any:
    """Goes on with a paused job from where it stands."""
    return changed(request, job_id, resume_job)


def changed(
    request: HttpRequest, job_id: str, change: Callable[..., Job]
) -> dict[str, Any]:
    change(member=current_member(request), job=find_job(job_id))
    return show_job(find_job(job_id))


@router.post(
    "/fine_tuning/alpha/graders/{path:rest}", response=answers(JobShape), auth=worker
)
def use_grader(request: HttpRequest, rest: str) -> Any:
    """Answers 404, because graders belong to training by reinforcement."""
    raise ApiError(
        HTTPStatus.NOT_FOUND,
        "Graders belong to training by reinforcement. This server trains on examples "
        "of good answers.",
        code="not_found",
    )
