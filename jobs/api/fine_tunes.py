"""Answers /v1/fine-tunes, by which OpenAI's clients before version 1 know jobs."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Router, Schema
from pydantic import Field

from datasets.models import DatasetVersion
from datasets.services import reweighted
from finetune_site.common.errors import BusyError
from finetune_site.common.event_stream import (
    LAST_EVENT,
    SIGN_OF_LIFE,
    STREAM_HEADERS,
    write_event,
)
from finetune_site.common.parsing import is_text
from finetune_site.team.access import current_member
from finetune_site.team.models import Member
from jobs.api.errors import answers, not_found
from jobs.api.events import level_of
from jobs.api.fields import Between, Text
from jobs.api.files import FileShape, show_file, show_result
from jobs.api.fine_tuning import draft
from jobs.api.first_answer import answer_once
from jobs.api.job_request import JobRequest, client_names
from jobs.api.job_shape import (
    ORGANIZATION,
    UsedHyperparameters,
    made_model,
    seconds,
    shown_jobs,
    used_hyperparameters,
)
from jobs.api.keys import worker
from jobs.api.paging import Limit, Page, page_of
from jobs.api.sse import MAY_STREAM
from jobs.history.log_lines import sentence
from jobs.models import Event, Job
from jobs.new_job.creation import save_job
from jobs.new_job.defaults import DEFAULT_MODEL
from jobs.services.jobs import stop_job

router = Router(tags=["Fine-tunes (before version 1)"])

Status = Job.Status
# These clients know no states for checks and pauses.
NAMES: dict[str, str] = {
    Status.VALIDATING: "pending",
    Status.QUEUED: "pending",
    Status.STARTING: "pending",
    Status.PAUSED: "pending",
}
# The number of events in the object. Steps are left out: they have their own address.
EVENTS_IN_OBJECT = 100
NOT_IN_OBJECT = ("step", "validation", "completion")
MAX_EVENTS = 1000
# Seconds between two looks of a stream for news. They grow while none comes.
LOOK_SECONDS = 0.5
MAX_LOOK_SECONDS = 3.0
SIGN_OF_LIFE_SECONDS = 15.0
# Seconds that the stream of a paused job stays open.
PAUSED_SECONDS = 600.0
# The number of streams that one member may have at a time.
MAX_STREAMS = 20

# The keys are primary keys of members. There is only one web process, so it knows all.
open_streams: Counter[int] = Counter()


class FineTuneRequest(JobRequest):
    """`learning_rate_multiplier` multiplies the base model's own rate for fine-tuning.

    Settings for classification are ignored.
    """

    model: Text = DEFAULT_MODEL
    prompt_loss_weight: Annotated[float | None, Between(0, 10, whole=False)] = Field(
        None, description="Instead of the file's own loss weights of prompts."
    )


class FineTuneEvent(Schema):
    object: Literal["fine-tune-event"] = "fine-tune-event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str


class LegacyHyperparameters(UsedHyperparameters):
    prompt_loss_weight: float | None


class ListedFineTune(Schema):
    id: str
    object: Literal["fine-tune"] = "fine-tune"
    created_at: int
    updated_at: int
    model: str
    fine_tuned_model: str | None
    organization_id: str = ORGANIZATION
    status: Literal["pending", "running", "succeeded", "failed", "cancelled"]
    hyperparams: LegacyHyperparameters
    training_files: list[FileShape]
    validation_files: list[FileShape]
    result_files: list[FileShape]


class FineTuneShape(ListedFineTune):
    events: list[FineTuneEvent]


class FineTuneEvents(Schema):
    object: Literal["list"] = "list"
    data: list[FineTuneEvent]
    has_more: bool = False


@router.post("/fine-tunes", response=answers(FineTuneShape), auth=worker)
def create_fine_tune(request: HttpRequest, body: FineTuneRequest) -> Any:
    """Trains a model on a file."""
    member = current_member(request)

    def make(job: Job) -> dict[str, Any]:
        if body.prompt_loss_weight is not None:
            reweight(job, member, body.prompt_loss_weight)
        with client_names():
            save_job(job, member=member)
        return show_fine_tune(find_fine_tune(job.uid))

    return answer_once(request, prepare=lambda: draft(body), make=make)


def reweight(job: Job, member: Member, weight: float) -> None:
    """Lets a drafted job learn from versions with that loss weight for all prompts."""
    for name in ("dataset_version", "validation_version"):
        if version := getattr(job, name):
            new = reweighted(member=member, version=version, prompt_weight=weight)
            setattr(job, name, new)


@router.get("/fine-tunes", response=answers(Page[ListedFineTune]))
def list_fine_tunes(
    request: HttpRequest, limit: Limit = 20, after: str | None = None
) -> Any:
    """Returns the jobs without their events, the newest first."""
    return page_of(shown_fine_tunes(), show_listed, limit=limit, after=after)


@router.get("/fine-tunes/{job_id}", response=answers(FineTuneShape))
def get_fine_tune(request: HttpRequest, job_id: str) -> Any:
    """Returns a job with what happened to it, except for its steps."""
    return show_fine_tune(find_fine_tune(job_id))


@router.post(
    "/fine-tunes/{job_id}/cancel", response=answers(FineTuneShape), auth=worker
)
def cancel_fine_tune(request: HttpRequest, job_id: str) -> Any:
    """Ends a job. If it has learned something, it leaves a last snapshot."""
    stop_job(member=current_member(request), job=find_fine_tune(job_id))
    return show_fine_tune(find_fine_tune(job_id))


@router.get(
    "/fine-tunes/{job_id}/events",
    response=answers(FineTuneEvents),
    openapi_extra=MAY_STREAM,
)
def list_fine_tune_events(
    request: HttpRequest, job_id: str, stream: bool = False
) -> Any:
    """Returns the newest thousand events, the oldest of them first. As a stream they go
    on until the job ends, or has been paused for ten minutes.
    """
    job = find_fine_tune(job_id)
    if stream:
        member_id = current_member(request).pk
        if open_streams[member_id] >= MAX_STREAMS:
            raise BusyError(
                f"You follow {MAX_STREAMS} fine-tunes already. End one of these "
                "streams, or ask for the events without `stream`."
            )
        events = counted(member_id, event_stream(job.pk))
        return StreamingHttpResponse(events, headers=STREAM_HEADERS)
    return {"data": told_events(job, job.events.all(), MAX_EVENTS)}


def shown_fine_tunes() -> QuerySet[Job]:
    newest = Event.objects.filter(job=OuterRef("pk")).order_by("-seq")
    return (
        shown_jobs()
        .defer(None)
        .select_related(
            "dataset_version__dataset", "validation_version__dataset", "parent_snapshot"
        )
        .annotate(event_at=Subquery(newest.values("time")[:1]))
    )


def find_fine_tune(uid: str) -> Job:
    """Returns the job with all that is shown. Raises ApiError if there is none."""
    jobs = shown_fine_tunes()
    job = jobs.filter(uid=uid).first() if is_text(uid) else None
    return job or not_found("fine-tune", uid)


def show_fine_tune(job: Job) -> dict[str, Any]:
    events = job.events.exclude(type__in=NOT_IN_OBJECT)
    return {**show_listed(job), "events": told_events(job, events, EVENTS_IN_OBJECT)}


def show_listed(job: Job) -> dict[str, Any]:
    times = (job.created_at, job.event_at, job.finished_at)  # type: ignore[attr-defined]
    validation = job.validation_version
    return {
        "id": job.uid,
        "created_at": seconds(job.created_at),
        "updated_at": seconds(max(filter(None, times))),
        "model": str(job.parent_snapshot or job.base_model),
        "fine_tuned_model": made_model(job),
        "status": NAMES.get(job.status, job.status),
        "hyperparams": {
            **used_hyperparameters(job),
            "prompt_loss_weight": prompt_weight(job.dataset_version),
        },
        "training_files": [show_file(job.dataset_version)],
        "validation_files": [show_file(validation)] if validation else [],
        "result_files": [show_result(job)] if job.is_final and job.step else [],
    }


def prompt_weight(version: DatasetVersion) -> float | None:
    """Returns the loss weight of all its prompts, or None if they have several."""
    weights = {part["weight"] for part in version.shares if part["position"] == 0}
    return weights.pop() if len(weights) == 1 else None


def told_events(job: Job, events: QuerySet[Event], most: int) -> list[dict[str, Any]]:
    """Returns the newest events, the oldest of them first, between the job's beginning
    and its end.
    """
    newest = list(events.order_by("-seq")[:most])
    last = newest[0] if newest else None
    told = [tell(event) for event in reversed(newest)]
    return [beginning(job), *told, *ending(job, last)]


def beginning(job: Job) -> dict[str, Any]:
    return _event(seconds(job.created_at), "info", f"Created fine-tune: {job.uid}")


def ending(job: Job, last: Event | None) -> list[dict[str, Any]]:
    """Returns an event for the end of a job whose trainer could not tell it."""
    if not job.is_final or (last and last.type == "status"):
        return []
    level = "error" if job.status == Status.FAILED else "info"
    word = job.get_status_display()
    message = f"{word}: {job.status_message}" if job.status_message else word
    return [_event(seconds(job.finished_at), level, message)]


def tell(event: Event) -> dict[str, Any]:
    return _event(seconds(event.time), level_of(event), sentence(event))


def _event(created_at: int | None, level: str, message: str) -> dict[str, Any]:
    kind = "fine-tune-event"
    return {
        "object": kind,
        "created_at": created_at,
        "level": level,
        "message": message,
    }


@dataclass(frozen=True)
class News:
    """New events of a job. `seq` is the number of the last one."""

    events: list[dict[str, Any]]
    seq: int
    ended: bool
    paused: bool = False


async def counted(member_id: int, parts: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """Yields the parts, and counts them as one open stream of the member."""
    open_streams[member_id] += 1
    try:
        async with aclosing(parts):
            async for part in parts:
                yield part
    finally:
        open_streams[member_id] -= 1


async def event_stream(pk: int) -> AsyncGenerator[bytes]:
    """Yields events until the job ends, is paused for long, or is deleted.

    A slow client holds up nobody else: further rows are read only after it has taken
    the events before them.
    """
    seq: int | None = None
    wait = LOOK_SECONDS
    said = heard = time.monotonic()
    while True:
        news = await sync_to_async(read_on)(pk, seq)
        seq = news.seq
        for event in news.events:
            yield write_event(event)
        now = time.monotonic()
        if news.events:
            said, heard, wait = now, now, LOOK_SECONDS
        if news.ended or (news.paused and now - heard > PAUSED_SECONDS):
            break
        if now - said > SIGN_OF_LIFE_SECONDS:
            said = now
            yield SIGN_OF_LIFE
        await asyncio.sleep(wait)
        wait = min(wait * 1.5, MAX_LOOK_SECONDS)
    yield LAST_EVENT


def read_on(pk: int, after: int | None) -> News:
    try:
        # The status is read first: events that come between are told the next time.
        job = Job.objects.filter(pk=pk).first()
        if job is None:
            return News([], 0, ended=True)
        found = events_after(job, after or 0)
        told = [beginning(job)] if after is None else []
        told += [tell(event) for event in found[:MAX_EVENTS]]
        ended = job.is_final and len(found) <= MAX_EVENTS
        seq = found[:MAX_EVENTS][-1].seq if found else after or 0
        if ended:
            told += ending(job, job.events.order_by("-seq").first())
        return News(told, seq, ended, paused=job.status == Status.PAUSED)
    finally:
        # The connection would be idle until the next look.
        connections.close_all()


def events_after(job: Job, seq: int) -> list[Event]:
    """Returns the next events, one more than are told at once if there are so many."""
    if job.last_seq <= seq:
        return []
    return list(job.events.filter(seq__gt=seq).order_by("seq")[: MAX_EVENTS + 1])
