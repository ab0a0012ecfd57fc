"""Background tasks. Each may be delivered twice, also at the same time."""

from jobs.models import Job
from jobs.new_job.preparation import prepare
from jobs.services.counting import count_version
from jobs.services.downloads import download_next, enqueue_download
from jobs.services.heartbeats import beat
from jobs.services.launching import launch
from jobs.services.launching import launch_queued as launch_all
from jobs.services.model_trials import try_models as try_new_models


def prepare_job(job_id: int) -> None:
    """Checks a new job, and starts it at once when there is room."""
    if prepare(job_id):
        launch_all(Job.objects.values_list("engine", flat=True).get(pk=job_id))


def launch_queued(engine: str) -> None:
    launch_all(engine)


def launch_job(job_id: int) -> None:
    launch(job_id)


def count_tokens(version_id: int, base_model: str) -> None:
    """Counts the tokens of a version for the plan on the form of a new job."""
    count_version(version_id, base_model)


def download_model() -> None:
    """Works some seconds on the download that waits longest; the next task goes on."""
    if download_next():
        enqueue_download()


def try_models() -> None:
    """Tries the base models that were added, so that they become ready."""
    try_new_models()


def beat_worker() -> None:
    beat("worker")
