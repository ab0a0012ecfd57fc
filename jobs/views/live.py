"""What the live page asks for after its first load."""

import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import lru_cache
from http import HTTPStatus
from typing import cast

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from finetune_site.common.event_stream import SIGN_OF_LIFE, STREAM_HEADERS, write_event
from finetune_site.common.parsing import small_int
from finetune_site.team.access import current_member
from finetune_site.team.models import Member
from jobs.charts import figures
from jobs.history.curves import read_curves
from jobs.live.page import Update, update
from jobs.live.streams import updates_of
from jobs.models import Job

# Each tab in sight has a stream. A member with more leaves the rest to others.
MAX_STREAMS_PER_MEMBER = 24

# The keys are primary keys of members. There is only one web process, so it knows all.
open_streams: Counter[int] = Counter()


@require_safe
def job_parts(request: HttpRequest, pk: int) -> JsonResponse:
    """Sends one update, for browsers to which no stream comes through."""
    job = get_object_or_404(Job, pk=pk)
    can_work = current_member(request).can_work
    return JsonResponse(update(job, after=_after(request), can_work=can_work))


async def job_live(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """Streams updates (server-sent events) until the job is final."""
    if request.method != "GET":
        return HttpResponse(status=HTTPStatus.METHOD_NOT_ALLOWED)  # type: ignore[return-value]
    member = cast(Member, await request.auser())
    if not await Job.objects.filter(pk=pk).aexists():
        raise Http404
    if open_streams[member.pk] >= MAX_STREAMS_PER_MEMBER:
        # The page asks again and again instead.
        return HttpResponse(status=HTTPStatus.TOO_MANY_REQUESTS)  # type: ignore[return-value]
    # The stream has a connection of its own; this one would only stay open beside it.
    await sync_to_async(connections.close_all)()
    updates = updates_of(pk, after=_after(request), can_work=member.can_work)
    events = _as_events(updates, member.pk)
    return StreamingHttpResponse(events, headers=STREAM_HEADERS)


@require_safe
def job_figure(request: HttpRequest, pk: int) -> HttpResponse:
    """Sends a figure of the job as JSON, with a sentence about it."""
    job = get_object_or_404(Job, pk=pk)
    asked = request.GET.get("series", "")
    series = asked if asked in figures.SERIES else figures.SERIES[0]
    etag = f'"{job.pk}-{job.last_seq}-{job.status}-{series}"'
    if request.headers.get("If-None-Match") == etag:
        return HttpResponse(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag})
    return HttpResponse(
        _figure_json(job.pk, series, etag),
        content_type="application/json",
        headers={"ETag": etag, "Cache-Control": "private, no-cache"},
    )


@lru_cache(maxsize=32)
def _figure_json(pk: int, series: str, stamp: str) -> str:
    """Returns the figure, built once for all who watch.

    `stamp` stands for the state of the job in the key of the cache.
    """
    job = Job.objects.get(pk=pk)
    curves = read_curves(job)
    figure = figures.build_figure(job, curves, series)
    label = json.dumps(figures.describe(curves, series))
    return f'{{"seq": {job.last_seq}, "label": {label}, "figure": {figure.to_json()}}}'


async def _as_events(
    updates: AsyncGenerator[Update | None], member_id: int
) -> AsyncIterator[bytes]:
    """Yields each update as an event, without parts that the browser has."""
    sent: dict[str, str] = {}
    open_streams[member_id] += 1
    try:
        async with aclosing(updates):
            async for found in updates:
                if found is None:
                    yield SIGN_OF_LIFE
                    continue
                parts = found["parts"]
                fresh = {
                    key: part for key, part in parts.items() if sent.get(key) != part
                }
                sent.update(fresh)
                yield write_event({**found, "parts": fresh}, number=found["seq"])
    finally:
        open_streams[member_id] -= 1


def _after(request: HttpRequest) -> int:
    """Returns the last event that the page has.

    It is in the address, or in a header if a stream broke.
    """
    text = request.headers.get("Last-Event-ID") or request.GET.get("after", "")
    return small_int(text) or 0
