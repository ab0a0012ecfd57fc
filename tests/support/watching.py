"""Runs the watcher and the queued tasks inside a test, against real trainers."""

import time
from collections.abc import Callable

from django.utils.module_loading import import_string
from django_q.models import OrmQ

from jobs.models import Job
from jobs.watching.watcher import Watcher


def run_tasks() -> list[str]:
    """Runs what waits in the queue, as the worker would. Returns the tasks' names."""
    names = []
    for row in OrmQ.objects.order_by("id"):
        row.delete()
        names.append(row.task["func"])
        import_string(row.task["func"])(*row.task["args"])
    return names


def watch(job: Job, until: Callable[[Job], bool], seconds: float = 400) -> Job:
    """Watches and works until the job is as wanted."""
    watcher = Watcher()
    end = time.monotonic() + seconds
    while not until(job):
        assert time.monotonic() < end, (job.status, job.step, job.status_message)
        watcher.look()
        run_tasks()
        time.sleep(0.05)
        job.refresh_from_db()
    return job
