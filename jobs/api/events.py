"""Tells what happened to a job: the lines of its run folder, one event for each."""

import re
from typing import Any, Literal

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Router, Schema

from finetune_site.common.ids import JOB_PREFIX
from finetune_site.common.parsing import is_text
from jobs.api.errors import answers, not_found
from jobs.api.job_shape import seconds
from jobs.api.paging import Limit, Order, Page, as_page
from jobs.history.log_lines import sentence
from jobs.models import Event, Job

router = Router(tags=["Fine-tuning"])

METRICS = ("step", "validation")
LEVELS = {"warning": "warn"}


class EventShape(Schema):
    """`data` is the run folder's whole line, with `seq`, `time`, `type` and `step`."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


@router.get("/fine_tuning/jobs/{job_id}/events", response=answers(Page[EventShape]))
def list_fine_tuning_events(
    request: HttpRequest,
    job_id: str,
    limit: Limit = 20,
    after: str | None = None,
    order: Order = "desc",
) -> Any:
    """Returns a job's events, the newest first. Those who follow it use `order=asc`.

    `after` is an event's id; one with the number 00000000 stands before the first.
    """
    job = find_followed(job_id)
    events = job.events.all()
    if after is not None:
        seq = seq_of(job, after)
        events = events.filter(**{"seq__lt" if order == "desc" else "seq__gt": seq})
    return page_of_events(job, events, limit=limit, order=order)


def find_followed(uid: str) -> Job:
    """Returns the job with its ids alone, because followers ask twice a second."""
    jobs = Job.objects.only("pk", "uid")
    job = jobs.filter(uid=uid).first() if is_text(uid) else None
    return job or not_found("fine-tuning job", uid)


def page_of_events(
    job: Job, events: QuerySet[Event], *, limit: int, order: Order
) -> dict[str, Any]:
    events = events.order_by("-seq" if order == "desc" else "seq")
    found = list(events[: limit + 1])
    items = [show_event(job, event) for event in found[:limit]]
    return as_page(items, has_more=len(found) > limit)


def show_event(job: Job, event: Event) -> dict[str, Any]:
    return {
        "id": event_id(job, event.seq),
        "created_at": seconds(event.time),
        "level": level_of(event),
        "message": sentence(event),
        "type": "metrics" if event.type in METRICS else "message",
        "data": line_of(event),
    }


def line_of(event: Event) -> dict[str, Any]:
    """Returns the event's line of events.jsonl."""
    return {
        "seq": event.seq,
        "time": event.time.timestamp(),
        "type": event.type,
        "step": event.step,
        **event.data,
    }


def level_of(event: Event) -> str:
    if event.data.get("status") == Job.Status.FAILED:
        return "error"
    level = str(event.data.get("level", "info"))
    level = LEVELS.get(level, level)
    return level if level in ("warn", "error") else "info"


def event_id(job: Job, seq: int) -> str:
    return f"ftevent-{job.uid.removeprefix(JOB_PREFIX)}-{seq:08}"


def seq_of(job: Job, event: str) -> int:
    """Returns the number in an event's id. It may be 0, or that of a future event."""
    found = re.fullmatch(re.escape(event_id(job, 0)[:-8]) + r"([0-9]{8,9})", event)
    if not found:
        not_found("event of this job", event, param="after")
    return int(found[1])
