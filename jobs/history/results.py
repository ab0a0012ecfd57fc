"""Writes the result file of a job: a CSV of its steps, made when it is asked for."""

import csv
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import QuerySet

from finetune_site.common.ids import JOB_PREFIX
from finetune_site.common.parsing import is_text
from jobs.models import Event, Job

PREFIX = "file-result-"
HEADER = [
    "step",
    "train_loss",
    "train_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
]
STEPS_AT_ONCE = 2000

# Step → loss and accuracy of its validation.
Validations = dict[int, list[Any]]


def finished_jobs() -> QuerySet[Job]:
    """Returns the jobs with a result file: they have learned and ended."""
    return Job.objects.filter(status__in=Job.FINAL, step__gt=0)


def result_file_id(job: Job) -> str:
    """Returns the id of a job's result file."""
    return PREFIX + job.uid.removeprefix(JOB_PREFIX)


def find_result(file_id: str) -> Job | None:
    """Returns the job whose result file has that id, or None if there is none."""
    if not file_id.startswith(PREFIX) or not is_text(file_id):
        return None
    uid = JOB_PREFIX + file_id.removeprefix(PREFIX)
    return finished_jobs().filter(uid=uid).first()


def result_parts(job: Job) -> Iterator[bytes]:
    """Yields the file, some thousand lines at a time."""
    yield _lines([HEADER])
    validations = _validations(job)
    after = 0
    while steps := _steps(job, after):
        after = steps[-1].seq
        yield _lines([_row(event, validations) for event in steps])


async def stream_result(job: Job) -> AsyncIterator[bytes]:
    """Yields the file as `result_parts` does, reading the database in a thread."""
    parts = result_parts(job)

    @sync_to_async
    def read() -> bytes:
        return next(parts, b"")

    while part := await read():
        yield part


def result_bytes(job: Job) -> int:
    """Returns the size of the file.

    It is counted once, by writing the file, since an ended job changes no more.
    """
    if job.result_bytes is None:
        job.result_bytes = sum(map(len, result_parts(job)))
        Job.objects.filter(pk=job.pk).update(result_bytes=job.result_bytes)
    return job.result_bytes


def _validations(job: Job) -> Validations:
    events = job.events.filter(type="validation")
    return {
        step: [data.get("loss"), data.get("accuracy")]
        for step, data in events.values_list("step", "data")
    }


def _steps(job: Job, after: int) -> list[Event]:
    steps = job.events.filter(type="step", seq__gt=after).order_by("seq")
    return list(steps[:STEPS_AT_ONCE])


def _row(event: Event, validations: Validations) -> list[Any]:
    learned = [event.data.get("loss"), event.data.get("accuracy")]
    return [event.step, *learned, *validations.get(event.step, [None, None])]


def _lines(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
