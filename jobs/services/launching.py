"""Gives waiting jobs to their engine, one claim at a time."""

import logging
from datetime import timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from finetune_site.common.errors import UserError
from jobs.engines.registry import get_engine
from jobs.models import Job
from jobs.services.ending import end_job
from jobs.services.specs import build_spec

logger = logging.getLogger(__name__)

# A launch that has shown no trainer after this long has died.
CLAIM_SECONDS = 60.0
Status = Job.Status


def launch_queued(engine: str) -> int:
    """Launches as many waiting jobs as the engine has room for. Returns how many.

    Launches none on an engine elsewhere: that may take long, and its watch does it.
    """
    if get_engine(engine).is_remote:
        return 0
    num_launched = 0
    while (job_id := claim_next(engine)) is not None:
        launch(job_id)
        num_launched += 1
    return num_launched


def claim_next(engine: str) -> int | None:
    """Returns the engine's next job, which is `starting` now.

    Returns None if no job waits or there is no room.
    """
    with transaction.atomic():
        waiting = Job.objects.filter(engine=engine, status=Status.QUEUED)
        # The row is locked before the room is counted: of two who claim at a time the
        # second waits here, and then counts the job of the first.
        first = waiting.select_for_update().order_by("queued_at", "id").first()
        taken = Job.objects.filter(engine=engine, status__in=Job.LIVE).count()
        if first is None or taken >= get_engine(engine).jobs_at_once:
            return None
        claimed = waiting.filter(pk=first.pk).update(
            status=Status.STARTING, claimed_at=timezone.now()
        )
        return first.pk if claimed else None


def launch(job_id: int) -> None:
    """Starts the trainer of a claimed job, unless one lives already."""
    job = Job.objects.filter(pk=job_id, status=Status.STARTING).first()
    if job is None:
        return
    engine = get_engine(job.engine)
    try:
        engine.start(job, build_spec(job))
    except UserError as error:
        end_job(job, Status.FAILED, error.message, was={Status.STARTING})
    except (OperationalError, InterfaceError):
        # This passes, and the watcher claims the job again once the claim is stale.
        raise
    except Exception as error:
        logger.exception("The trainer of job %s could not be started", job.uid)
        message = f"The trainer could not be started ({type(error).__name__}: {error})."
        end_job(job, Status.FAILED, message, was={Status.STARTING})
    # If the job was stopped meanwhile, nobody would look after the trainer.
    if not Job.objects.filter(pk=job_id, status__in=Job.LIVE).exists():
        engine.end(job)


def reclaim(job: Job, **fields: Any) -> bool:
    """Claims a job again whose launch or trainer died.

    Returns False if somebody else has done so.
    """
    jobs = Job.objects.filter(pk=job.pk, status=job.status, claimed_at=job.claimed_at)
    claim = {"status": Status.STARTING, "claimed_at": timezone.now()}
    return jobs.update(**claim, **fields) == 1


def claim_is_stale(job: Job) -> bool:
    """Returns whether the claim is so old that its launch must have died."""
    if job.claimed_at is None:
        return True
    return timezone.now() - job.claimed_at > timedelta(seconds=CLAIM_SECONDS)
