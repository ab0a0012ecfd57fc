"""Counts the tokens of a new job's datasets, which may take minutes, for all to see."""

import time

from django.utils import timezone

from datasets.models import DatasetVersion
from jobs.base_models.catalogue import BaseModel
from jobs.models import Job
from jobs.selectors import models_dir
from jobs.services.heartbeats import Pulse
from jobs.trainer.token_cache import (
    TokenCache,
    build_token_cache,
    cache_folder,
    open_token_cache,
)

REPORT_SECONDS = 1.0


class NotWantedError(Exception):
    """The job was stopped while its tokens were counted."""


def count_tokens(job: Job, model: BaseModel) -> TokenCache:
    """Those of the training and the validation dataset; the cache of the first."""
    model_folder = model.folder(models_dir())
    versions = [job.dataset_version]
    if job.validation_version:
        versions.append(job.validation_version)
    folders = [cache_folder(version.folder, model_folder) for version in versions]
    caches = [open_token_cache(folder) for folder in folders]
    to_count = [v for v, cache in zip(versions, caches, strict=True) if not cache]
    progress = CountProgress(job, to_count)
    for version, folder in zip(versions, folders, strict=True):
        build_token_cache(
            version.examples_path, model_folder, folder, progress.of_version
        )
        progress.end_version()
    return TokenCache(folders[0])


class CountProgress:
    """Says in the job's row how far the count is, and so keeps its claim fresh."""

    def __init__(self, job: Job, versions: list[DatasetVersion]) -> None:
        self.job_id = job.pk
        self.total = sum(version.num_examples for version in versions)
        # Examples of the versions before, and those of this one.
        self.before = self.in_version = 0
        self.began = self.reported = time.monotonic()
        self.pulse = Pulse("worker")

    def of_version(self, num_examples: int) -> None:
        self.in_version = num_examples
        self.pulse()
        if time.monotonic() - self.reported >= REPORT_SECONDS:
            self.reported = time.monotonic()
            self._report(self.before + num_examples)

    def end_version(self) -> None:
        self.before, self.in_version = self.before + self.in_version, 0

    def _report(self, done: int) -> None:
        seconds = self.reported - self.began
        validating = Job.objects.filter(pk=self.job_id, status=Job.Status.VALIDATING)
        found = validating.update(
            claimed_at=timezone.now(),
            examples_counted=done,
            examples_to_count=self.total,
            counting_seconds_left=seconds * max(0, self.total - done) / done,
        )
        if not found:
            raise NotWantedError
