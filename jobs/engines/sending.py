"""Sends a job to another server: its files, then the job itself."""

import time

from datasets.models import DatasetVersion
from finetune_site.common.wording import percent
from jobs.engines.far_jobs import FarJobs
from jobs.engines.far_server import Answer
from jobs.models import Job
from jobs.trainer.contract.settings import SETTINGS

# How often people are told how far an upload is, and it is checked whether the job is
# still wanted.
SENT_SECONDS = 1.0


class NotWantedError(Exception):
    """Somebody stopped or paused the job while it was sent."""


def send_job(jobs: FarJobs, job: Job) -> Answer:
    """Creates the far job, and returns it. Raises NotWantedError.

    However often the creation is sent, there is one far job: it bears the job's own id.
    """
    body = creation(job, send_file(jobs, job, job.dataset_version))
    if job.validation_version:
        body["validation_file"] = send_file(jobs, job, job.validation_version)
    far_job = jobs.far.create_job(body, key=job.uid)
    jobs.keep_uid(job, far_job)
    return far_job


def send_file(jobs: FarJobs, job: Job, version: DatasetVersion) -> str:
    """Returns the far file's id, after sending it where the far side lacks it."""
    known = jobs.far.find_file(version.sha256)
    if known:
        return known
    return jobs.far.upload(
        version.examples_path,
        f"{version.dataset.name}.jsonl",
        key=f"{job.uid}-{version.uid}",
        progress=Sending(job, jobs.far.name),
    )


class Sending:
    """Shows how far an upload is, and ends one that nobody wants any more."""

    def __init__(self, job: Job, engine: str) -> None:
        self.rows = Job.objects.filter(pk=job.pk, status=Job.Status.STARTING)
        self.engine = engine
        self.looked_at = time.monotonic()

    def __call__(self, num_sent: int, num_bytes: int) -> None:
        """Notes that these bytes were sent. Raises NotWantedError."""
        if time.monotonic() - self.looked_at < SENT_SECONDS:
            return
        self.looked_at = time.monotonic()
        share = percent(num_sent / num_bytes)
        words = f"Sending the dataset to {self.engine}: {share}."
        if not self.rows.filter(want=Job.Want.RUN).update(status_message=words):
            raise NotWantedError


def creation(job: Job, training_file: str) -> Answer:
    """Returns the body of the far job's creation, which states every setting."""
    parent = job.parent_snapshot
    return {
        "model": parent.uid if parent else job.base_model,
        "training_file": training_file,
        "name": job.name,
        "prompts": job.prompts,
        **{one.api_name: getattr(job, one.name) for one in SETTINGS.values()},
        "metadata": {"client_job_id": job.uid},
    }
