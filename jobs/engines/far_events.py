"""Reads the events of a far job, which are the lines of its run folder there."""

from jobs.engines.base import RunFolderError
from jobs.engines.far_api import FarApi
from jobs.models import Job
from jobs.trainer.contract.events import Event

# Pages of events that are read in one look.
MAX_PAGES = 10


def read_new_events(far: FarApi, job: Job) -> tuple[list[Event], bool]:
    """Returns the events after `job.last_seq` in order, and whether these are all.

    Raises RunFolderError where one is missing.
    """
    events: list[Event] = []
    last = job.last_seq
    more = True
    for _ in range(MAX_PAGES):
        page, more = far.events(job.far_uid, last)
        for event in page:
            if event["seq"] != last + 1:
                raise RunFolderError(
                    f"Events are missing on the engine {far.name} after number "
                    f"{last}. Start a new job."
                )
            last = event["seq"]
        events += page
        if not more or not page:
            break
    return events, not more


def is_pause(event: Event) -> bool:
    """Returns whether the event says that the job was paused."""
    return event["type"] == "status" and event.get("status") == Job.Status.PAUSED


def as_forced_pause(event: Event, engine: str) -> Event:
    """Returns a pause, marked as one that people on the far side made.

    Without the mark the job would be resumed at once, since nobody here paused it.
    """
    message = event.get("message") or f"It was paused on the engine {engine}."
    return {**event, "forced": True, "message": message}
