"""Finds in a trainer's log the error with which Python ended it."""

import re

from jobs.history.log_lines import read_log_end
from jobs.models import Job

HEAD = "Traceback (most recent call last):\n"
# What the trainer itself logs begins with the time. After the last line of a traceback
# there is none, if the traceback is of what ended the trainer.
LOGGED = re.compile(r"^\d{4}-\d\d-\d\d ", re.MULTILINE)
# The line behind the indented ones: the kind of the error, and perhaps its message.
ERROR = re.compile(r"^[A-Za-z_][\w.]*(?::.*)?$", re.MULTILINE)
MEMORY = re.compile(r"memory|bad_alloc", re.IGNORECASE)
MAX_CHARACTERS = 300


def crash_of(job: Job) -> str:
    """Returns the error that ended a job's trainer, such as `KeyError: 'x'`.

    It is empty if the trainer ended without one, as when the system kills it, and for
    errors of memory: what helps against those is known.
    """
    _, found, traceback = read_log_end(job).rpartition(HEAD)
    if not found or LOGGED.search(traceback):
        return ""
    error = ERROR.search(traceback)
    if error is None or MEMORY.search(error[0]):
        return ""
    return error[0][:MAX_CHARACTERS]
