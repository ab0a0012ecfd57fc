"""Makes a new job ready: tokens counted, plan made, prompts chosen."""

import logging
from datetime import timedelta
from itertools import islice
from pathlib import Path

from django.db import InterfaceError, OperationalError
from django.db.models import Q
from django.utils import timezone
from django_q.tasks import async_task

from datasets.models import DatasetVersion
from datasets.services.versions import TASK_SECONDS
from finetune_site.common.errors import UserError
from finetune_site.common.parsing import is_text
from jobs.models import Job
from jobs.new_job.suggest import choose_settings
from jobs.selectors.base_models import get_base_model
from jobs.services.counting import CountStoppedError, count_tokens
from jobs.services.ending import end_job
from jobs.services.specs import build_spec
from jobs.trainer.contract.settings import SUGGESTED
from jobs.trainer.rows.plan import make_plan
from jobs.trainer.rows.token_cache import TokenCache
from jobs.trainer.text.examples import iter_examples

logger = logging.getLogger(__name__)

# A preparation that has shown no life for this long has died.
CLAIM_SECONDS = 20.0
MAX_EXAMPLES_FOR_PROMPTS = 10_000
# So many watched prompts has a job for which nobody gave any.
NUM_DEFAULT_PROMPTS = 3


def enqueue_preparation(job_id: int) -> None:
    async_task("jobs.tasks.prepare_job", job_id, timeout=TASK_SECONDS)


def prepare(job_id: int) -> bool:
    """Checks a new job and queues it. Returns whether it is queued now.

    It can be called twice, also at the same time: the second call leaves at once.
    """
    if waits_for_import(job_id):
        return False
    job = claim(job_id)
    if job is None:
        return False
    try:
        prepare_claimed(job)
    except CountStoppedError:
        return False
    except UserError as error:
        fail_checked(job, error.message)
        return False
    except (OperationalError, InterfaceError):
        # This passes: the watcher asks again once the claim is stale.
        raise
    except Exception as error:
        logger.exception("Job %s could not be prepared", job.uid)
        fail_checked(
            job,
            f"The dataset could not be prepared ({type(error).__name__}: {error}). "
            "The site's log says more.",
        )
        return False
    ready = Job.objects.filter(pk=job.pk, status=Job.Status.VALIDATING)
    return (
        ready.update(
            status=Job.Status.QUEUED,
            status_message="",
            queued_at=timezone.now(),
            claimed_at=None,
            prompts=job.prompts,
            plan=job.plan,
            total_steps=job.total_steps,
            auto=job.auto,
            **{name: getattr(job, name) for name in SUGGESTED},
        )
        == 1
    )


def unimported() -> Q:
    """Returns the condition for jobs that wait for the import of a dataset."""
    importing = DatasetVersion.Status.IMPORTING
    return Q(dataset_version__status=importing) | Q(
        validation_version__status=importing
    )


def waits_for_import(job_id: int) -> bool:
    return Job.objects.filter(unimported(), pk=job_id).exists()


def waiting_for(version_id: int) -> list[int]:
    """Returns the ids of jobs that are to be prepared and use a version."""
    needs_it = Q(dataset_version=version_id) | Q(validation_version=version_id)
    jobs = Job.objects.filter(needs_it, status=Job.Status.VALIDATING)
    return list(jobs.values_list("pk", flat=True))


def unclaimed() -> Q:
    stale = timezone.now() - timedelta(seconds=CLAIM_SECONDS)
    return Q(claimed_at=None) | Q(claimed_at__lt=stale)


def claim(job_id: int) -> Job | None:
    waiting = Job.objects.filter(unclaimed(), pk=job_id, status=Job.Status.VALIDATING)
    claimed = waiting.update(
        claimed_at=timezone.now(),
        # A count that died begins anew.
        examples_counted=0,
        examples_to_count=0,
        counting_seconds_left=None,
    )
    if claimed != 1:
        return None
    return Job.objects.get(pk=job_id)


def fail_checked(job: Job, message: str) -> None:
    end_job(job, Job.Status.FAILED, message, was={Job.Status.VALIDATING})


def prepare_claimed(job: Job) -> None:
    check_imported(job)
    model = get_base_model(job.base_model)
    cache = count_tokens(job.dataset_version, model, job=job)
    # Only now that all tokens are counted, as for the plan that somebody saw before.
    choose_settings(job)
    if job.validation_version:
        count_tokens(job.validation_version, model, job=job)
    check_weights(job, cache)
    if not job.prompts:
        job.prompts = default_prompts(job)
    job.plan = make_plan(build_spec(job), cache=cache)
    job.total_steps = job.plan["total_steps"]


def check_imported(job: Job) -> None:
    for field in ("dataset_version", "validation_version"):
        version = getattr(job, field)
        if version and version.status == DatasetVersion.Status.FAILED:
            raise UserError(
                f"{version.source_name or version} could not be imported: "
                f"{version.status_message}",
                field=field,
            )


def check_weights(job: Job, cache: TokenCache) -> None:
    if cache.facts.learned_targets:
        return
    raise UserError(
        f"Nothing would be learned from {job.dataset_version}: every text in it has "
        "loss weight 0. Give the texts to be learned a weight above 0."
    )


def default_prompts(job: Job) -> list[str]:
    """Returns prompts for a job without any: how its first examples begin.

    They are all segments but the last of the first distinct examples that have several.
    """
    for version in (job.validation_version, job.dataset_version):
        if version and (prompts := first_beginnings(version.examples_path)):
            return prompts
    return [""]


def first_beginnings(path: Path) -> list[str]:
    prompts: list[str] = []
    for segments in islice(iter_examples(path), MAX_EXAMPLES_FOR_PROMPTS):
        prompt = "".join(text for text, _ in segments[:-1])
        # A file of examples may hold zero characters, which databases refuse.
        if prompt and is_text(prompt) and prompt not in prompts:
            prompts.append(prompt)
        if len(prompts) == NUM_DEFAULT_PROMPTS:
            break
    return prompts
