"""The playground: one prompt, up to four snapshots, answers as they come."""

import logging
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, cast

import orjson
from asgiref.sync import sync_to_async
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from finetune_site.common.errors import UserError
from finetune_site.team.models import Member
from jobs.engines.places import place
from jobs.engines.registry import LOCAL, engine_that_has
from jobs.models import Snapshot
from jobs.playground import choices as play
from jobs.playground.form import DEFAULTS, PlaygroundForm

logger = logging.getLogger(__name__)

# In the session, once its member has asked a snapshot.
TRIED = "tried_snapshot"

BROKE_OFF = (
    "The site met an error that it did not expect, and the answer broke off. Its log "
    "has the details; try again."
)
REFUSED = HTTPStatus.UNPROCESSABLE_ENTITY
STREAM_TYPE = "application/jsonl"


@require_safe
def playground(request: HttpRequest) -> HttpResponse:
    """Shows `?snapshot=UID` or `?model=NAME`; repeated, several side by side."""
    chosen = play.read_chosen(request.GET)
    groups = play.read_groups(chosen)
    if not chosen and groups:
        chosen = groups[0].choices[:1]
    prompt = chosen[0].prompt if chosen else ""
    form = PlaygroundForm(initial={**DEFAULTS, "prompt": prompt})
    columns = [{"chosen": choice} for choice in chosen]
    return _page(request, form=form, groups=groups, columns=columns)


@require_POST
async def playground_answer(request: HttpRequest) -> HttpResponseBase:
    """Streams one column's answers as JSON lines.

    A browser without scripts is sent a page. Viewers may ask too, since nothing is
    changed.
    """
    value = request.POST.get("model", "")
    snapshot = await sync_to_async(play.find)(value)
    form = PlaygroundForm(request.POST)
    wants_stream = STREAM_TYPE in request.headers.get("Accept", "")
    if not form.is_valid():
        if wants_stream:
            return JsonResponse({"errors": form.errors}, status=REFUSED)
        return await sync_to_async(_answered)(request, form, snapshot, value, [])
    if snapshot:
        await request.session.aset(TRIED, True)
    asked = {**form.cleaned_data, "base_model": value}
    lines = _lines(cast(Member, await request.auser()), snapshot, asked)
    if not wants_stream:
        whole = [line async for line in lines]
        return await sync_to_async(_answered)(request, form, snapshot, value, whole)
    return StreamingHttpResponse(
        (orjson.dumps(line) + b"\n" async for line in lines),
        content_type=STREAM_TYPE,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _lines(
    member: Member, snapshot: Snapshot | None, asked: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """Yields the answer's lines. An error is the last one: the answer has begun."""
    try:
        # This reads a row if the engine is elsewhere.
        engine = await sync_to_async(engine_that_has)(snapshot) if snapshot else LOCAL
        async with place(member):
            async for line in engine.complete(snapshot, asked):
                yield line
    except UserError as error:
        yield {"error": {"message": error.message}}
    except Exception:
        logger.exception("An answer in the playground broke off")
        yield {"error": {"message": BROKE_OFF}}


def _answered(
    request: HttpRequest,
    form: PlaygroundForm,
    snapshot: Snapshot | None,
    value: str,
    lines: list[dict[str, Any]],
) -> HttpResponse:
    chosen = play.choice_of(snapshot, value)
    texts: dict[int, str] = {}
    for line in lines:
        if "index" in line:
            texts[line["index"]] = texts.get(line["index"], "") + line["text"]
    last = lines[-1] if lines else {}
    column = {
        "chosen": chosen,
        "prompt": form.cleaned_data.get("prompt", ""),
        "answers": [texts[index] for index in sorted(texts)],
        "error": last.get("error", {}).get("message", ""),
    }
    status = REFUSED if form.errors else HTTPStatus.OK
    groups = play.read_groups([chosen])
    return _page(request, form=form, groups=groups, columns=[column], status=status)


def _page(request: HttpRequest, *, status: int = 200, **context: Any) -> HttpResponse:
    context["max_columns"] = play.MAX_COLUMNS
    return render(request, "playground/page.html", context, status=status)
