"""Settings of a job that are left to the site."""

from jobs.models import Job
from jobs.selectors import suggest_settings

CHOSEN = (
    "method",
    "epochs",
    "batch_size",
    "max_tokens",
    "learning_rate_scale",
    "seed",
    "completions_every",
    "num_completions",
    "snapshots_every",
)


def choose_settings(job: Job) -> None:
    """Set what `job.auto` names, once its dataset is there; nothing is saved."""
    if not job.auto:
        return
    given = {name: getattr(job, name) for name in CHOSEN if name not in job.auto}
    suited = suggest_settings(job.dataset_version, job.base_model, given)
    for name in job.auto:
        setattr(job, name, suited[name])
    job.auto = []
