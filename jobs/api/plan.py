"""POST /v1/fine_tuning/plan: what a job would do. It starts nothing."""

import asyncio
import time
from http import HTTPStatus
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpRequest
from ninja import Router, Schema

from datasets.models import DatasetVersion
from jobs.api.errors import ApiError, answers
from jobs.api.job_request import JobRequest, asked_for, client_names
from jobs.api.keys import worker
from jobs.models import Job
from jobs.new_job.creation import checked_job
from jobs.new_job.plan import plan_job
from jobs.new_job.preparation import check_imported, default_prompts
from jobs.services.counting import start_counting

router = Router(tags=["Fine-tuning"])

# A request waits so long for the import of a file and for the count of its tokens.
WAIT_SECONDS = 120.0
LOOK_SECONDS = 0.3
RETRY_SECONDS = 20


class PlanShape(Schema):
    """The keys of `python -m jobs.trainer plan`."""

    examples: int
    tokens: int
    learned_tokens: int
    unlearned_examples: int
    rows: int
    padding_share: float
    pieces_cut: int
    steps_per_epoch: int
    total_steps: int
    completions: int
    snapshots: int
    disk_bytes: int
    memory_bytes: int
    memory_parts: dict[str, int]
    seconds: float | None


@router.post("/fine_tuning/plan", response=answers(PlanShape), auth=worker)
async def plan_fine_tuning_job(request: HttpRequest, body: JobRequest) -> Any:
    """Returns the steps, tokens, memory and time of a job, which is not started. Tokens
    that were never counted are counted now.
    """
    job = await sync_to_async(draft)(body)
    end = time.monotonic() + WAIT_SECONDS
    while True:
        plan = await sync_to_async(look)(job)
        if plan is not None:
            return plan
        if time.monotonic() > end:
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The tokens of the file are still being counted. Ask again.",
                retry_after=RETRY_SECONDS,
            )
        await asyncio.sleep(LOOK_SECONDS)


def draft(body: JobRequest) -> Job:
    with client_names():
        return checked_job(asked_for(body), may_import=True)


def look(job: Job) -> dict[str, Any] | None:
    """Returns the plan, or None while it cannot be made yet."""
    if not is_imported(job):
        plan = None
    else:
        job.prompts = job.prompts or default_prompts(job)
        plan = plan_job(job)
        if plan is None:
            start_counting(job.dataset_version, job.base_model)
    if plan is None:
        # Else this connection would idle until the next look.
        connection.close()
    return plan


def is_imported(job: Job) -> bool:
    """Returns whether its datasets are here. Raises UserError if one never will be."""
    versions = [job.dataset_version, job.validation_version]
    for version in filter(None, versions):
        version.refresh_from_db()
    with client_names():
        check_imported(job)
    return all(v.status == DatasetVersion.Status.READY for v in versions if v)
