"""A watcher's look at its engine, and what the job is then."""

import threading

from jobs.models import Job
from jobs.watching.remote_engines import EngineLoop


def new_loop() -> EngineLoop:
    return EngineLoop("lab", threading.Event())


def look(loop: EngineLoop, job: Job) -> Job:
    loop.look()
    job.refresh_from_db()
    return job
