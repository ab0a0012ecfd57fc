"""What this app does when the datasets app says that something happened."""

from typing import Any

from django.dispatch import receiver

from datasets.signals import import_ended
from jobs.new_job.preparation import enqueue_preparation, waiting_for


@receiver(import_ended)
def prepare_waiting_jobs(*, version_id: int, **_: Any) -> None:
    for job_id in waiting_for(version_id):
        enqueue_preparation(job_id)
