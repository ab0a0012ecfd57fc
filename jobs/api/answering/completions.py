"""Answers /v1/completions."""

import hashlib
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

import orjson
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema

from finetune_site.common.ids import random_id
from finetune_site.team.access import current_member
from finetune_site.team.models import Member
from jobs.api.answering.asking import ask, find_engine
from jobs.api.answering.completion_request import (
    CompletionRequest,
    EngineCompletionRequest,
)
from jobs.api.errors import answers
from jobs.api.sse import MAY_STREAM, streamed
from jobs.engines.base import Engine
from jobs.selectors.base_models import models_dir
from jobs.selectors.model_names import ModelChoice, find_model
from jobs.trainer.contract.folder_stamp import folder_stamp
from jobs.trainer.contract.model_folders import model_folder

router = Router(tags=["Completions"])


class Logprobs(Schema):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    # The tokens' positions in characters, counted from the start of the prompt.
    text_offset: list[int]


class Choice(Schema):
    text: str
    index: int
    logprobs: Logprobs | None = None
    finish_reason: Literal["stop", "length"] | None


class Usage(Schema):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionShape(Schema):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage


@router.post(
    "/completions", response=answers(CompletionShape), openapi_extra=MAY_STREAM
)
async def create_completion(request: HttpRequest, body: CompletionRequest) -> Any:
    """Continues a text, or several. With `stream` they come as server-sent events."""
    choice = await sync_to_async(find_model)(body.model)
    engine = await find_engine(choice)
    return await complete(current_member(request), engine, choice, body)


async def complete(
    member: Member,
    engine: Engine,
    choice: ModelChoice,
    body: EngineCompletionRequest,
) -> Any:
    """Returns the response to a request for completions: whole, or as a stream."""
    questions = body.questions()
    lines = ask(member, engine, choice, questions)
    head = new_head(choice, "cmpl", "text_completion")
    n = body.n or 1
    if body.stream:
        return await streamed(chunks(lines, head, n, with_usage=body.includes_usage))
    whole: dict[int, dict[str, Any]] = {}
    total: list[dict[str, Any]] = []
    async with aclosing(lines):
        async for place, line in lines:
            if "done" in line:
                total.append(line["usage"])
            else:
                add_piece(whole, choice_of(place * n, line))
    choices = [whole[index] for index in sorted(whole)]
    return written(head | {"choices": choices, "usage": usage_of(total)})


def written(answer: dict[str, Any]) -> HttpResponse:
    """Returns the response to an answer that has its final shape. A check of hundreds
    of thousands of logprobs by Ninja would block the web process for seconds.
    """
    content_type = "application/json; charset=utf-8"
    return HttpResponse(orjson.dumps(answer), content_type=content_type)


async def chunks(
    lines: AsyncGenerator[tuple[int, dict[str, Any]]],
    head: dict[str, Any],
    n: int,
    *,
    with_usage: bool,
) -> AsyncGenerator[dict[str, Any]]:
    """Yields the pieces of all choices as they come."""
    total: list[dict[str, Any]] = []
    extra = {"usage": None} if with_usage else {}
    async with aclosing(lines):
        async for place, line in lines:
            if "done" in line:
                total.append(line["usage"])
            else:
                yield head | {"choices": [choice_of(place * n, line)]} | extra
    if with_usage:
        yield head | {"choices": [], "usage": usage_of(total)}


def new_head(choice: ModelChoice, prefix: str, kind: str) -> dict[str, Any]:
    return {
        "id": random_id(prefix),
        "object": kind,
        "created": int(time.time()),
        "model": choice.name,
        "system_fingerprint": fingerprint(choice),
    }


def fingerprint(choice: ModelChoice) -> str:
    """Returns an id that is another as soon as the weights are."""
    weights = choice.snapshot.sha256 if choice.snapshot else _base_weights(choice)
    return f"fp_{hashlib.sha256(weights.encode()).hexdigest()[:12]}"


def _base_weights(choice: ModelChoice) -> str:
    # To read the weights themselves would take seconds. Elsewhere there is no stamp.
    folder = model_folder(choice.base_model, models_dir())
    return f"{choice.base_model} {folder_stamp(folder)}"


def choice_of(first: int, line: dict[str, Any]) -> dict[str, Any]:
    """Returns a piece of a choice. `first` is the index of its prompt's first one."""
    return {
        "text": line["text"],
        "index": first + line["index"],
        "logprobs": line.get("logprobs"),
        "finish_reason": line["finish_reason"],
    }


def add_piece(whole: dict[int, dict[str, Any]], piece: dict[str, Any]) -> None:
    """Appends a piece to its choice among those of the whole answer."""
    known = whole.setdefault(piece["index"], piece)
    if known is piece:
        return
    known["text"] += piece["text"]
    known["finish_reason"] = piece["finish_reason"]
    for name, values in (piece["logprobs"] or {}).items():
        if values:
            known["logprobs"][name] += values


def usage_of(total: list[dict[str, Any]]) -> dict[str, int]:
    prompt = sum(usage["prompt_tokens"] for usage in total)
    completion = sum(usage["completion_tokens"] for usage in total)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
