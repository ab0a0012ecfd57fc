"""A watcher's look at its engine, and what the job is then."""

from jobs.models import Job
from jobs.watching.remote_engines import RemoteWatch


def look(watch: RemoteWatch, job: Job) -> Job:
    watch.look()
    job.refresh_from_db()
    return job
