"""A watcher's look at its engine, and what the job is then."""

from jobs.models import Job
from jobs.watching.remote_engines import EngineLoop


def look(loop: EngineLoop, job: Job) -> Job:
    loop.look()
    job.refresh_from_db()
    return job
