"""Counts the tokens of a dataset version, which may take minutes."""

import time

from django.core.cache import cache
from django.db.models import Q, QuerySet
from django.utils import timezone
from django_q.tasks import async_task

from datasets.models import DatasetVersion
from datasets.services.versions import TASK_SECONDS
from jobs.base_models.catalogue import BaseModel
from jobs.models import Job
from jobs.selectors.base_models import find_base_model, models_dir
from jobs.services.heartbeats import Pulse
from jobs.trainer.rows.token_cache import (
    TokenCache,
    build_token_cache,
    cache_folder,
)

REPORT_SECONDS = 1.0
# A count that has not ended after this long is asked for again.
COUNT_AGAIN_SECONDS = 120


class CountStoppedError(Exception):
    """The job was stopped while its tokens were counted."""


def count_tokens(
    version: DatasetVersion, model: BaseModel, *, job: Job | None = None
) -> TokenCache:
    """Counts the tokens for a claimed job or for a form, unless that is done already.

    If somebody else is counting them, waits for the end of that.
    """
    folder = model.folder(models_dir())
    progress = CountProgress(version, model, job)
    return build_token_cache(
        version.examples_path,
        folder,
        cache_folder(version.folder, folder),
        progress=progress.counted,
        waiting=progress.alive,
    )


def start_counting(version: DatasetVersion, base_model: str) -> None:
    """Has the worker count the tokens, once, however often the form asks."""
    key = f"count-tokens-{version.pk}-{base_model}"
    if cache.add(key, True, COUNT_AGAIN_SECONDS):
        async_task(
            "jobs.tasks.count_tokens", version.pk, base_model, timeout=TASK_SECONDS
        )


def count_version(version_id: int, base_model: str) -> None:
    """Makes the token cache of a version, if version and model are still there."""
    version = DatasetVersion.objects.filter(pk=version_id).first()
    model = find_base_model(base_model)
    if version and model and model.is_ready(models_dir()):
        count_tokens(version, model)


class CountProgress:
    """Tells how far a count is, in the rows of all jobs that wait for its end."""

    def __init__(
        self, version: DatasetVersion, model: BaseModel, job: Job | None
    ) -> None:
        self.version = version
        self.model = model
        self.job = job
        self.pulse = Pulse("worker")
        self.began = self.reported = self.renewed = time.monotonic()

    def counted(self, num_examples: int) -> None:
        """Notes how many examples are counted."""
        self.alive()
        if time.monotonic() - self.reported < REPORT_SECONDS:
            return
        self.reported = time.monotonic()
        num_left = max(0, self.version.num_examples - num_examples)
        self._waiting_jobs().update(
            examples_counted=num_examples,
            examples_to_count=self.version.num_examples,
            counting_seconds_left=(self.reported - self.began)
            * num_left
            / num_examples,
        )

    def alive(self) -> None:
        """Keeps the claim fresh. Raises CountStoppedError once the job is stopped."""
        self.pulse()
        if self.job is None or time.monotonic() - self.renewed < REPORT_SECONDS:
            return
        self.renewed = time.monotonic()
        if (
            not self._validating()
            .filter(pk=self.job.pk)
            .update(claimed_at=timezone.now())
        ):
            raise CountStoppedError

    def _waiting_jobs(self) -> QuerySet[Job]:
        needs_it = Q(dataset_version=self.version) | Q(validation_version=self.version)
        return self._validating().filter(needs_it, base_model=self.model.name)

    def _validating(self) -> QuerySet[Job]:
        return Job.objects.filter(status=Job.Status.VALIDATING)
