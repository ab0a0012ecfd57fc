"""Answers /v1/engines and the addresses below it, which clients up to 0.28 use."""

from contextlib import suppress
from typing import Any, Literal, NoReturn

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from ninja import Router, Schema

from finetune_site.common.errors import UserError
from finetune_site.team.access import current_member
from jobs.api.answering.asking import find_engine
from jobs.api.answering.completion_request import EngineCompletionRequest
from jobs.api.answering.completions import CompletionShape, complete
from jobs.api.errors import ApiError, answers, not_found
from jobs.api.sse import MAY_STREAM
from jobs.engines.base import Engine
from jobs.engines.registry import engine_titles, get_engine
from jobs.models import Snapshot
from jobs.selectors.model_names import (
    ModelChoice,
    UnknownModelError,
    find_model,
)

router = Router(tags=["Engines"])

OWNER = "finetune"
# An engine without snapshots answers with this model.
DEFAULT_MODEL = "tiny"


class EngineShape(Schema):
    id: str
    object: Literal["engine"] = "engine"
    owner: str = OWNER
    ready: bool = True
    created: None = None
    permissions: None = None
    # This field is our own: the name that people know.
    title: str


class EngineList(Schema):
    object: Literal["list"] = "list"
    data: list[EngineShape]


@router.get("/engines", response=answers(EngineList))
def list_engines(request: HttpRequest) -> Any:
    """Returns the engines, where jobs run and snapshots are served."""
    titles = engine_titles()
    return {"data": [{"id": name, "title": titles[name]} for name in titles]}


@router.post(
    "/engines/{path:engine}/completions",
    response=answers(CompletionShape),
    openapi_extra=MAY_STREAM,
)
async def create_engine_completion(
    request: HttpRequest, engine: str, body: EngineCompletionRequest
) -> Any:
    """Continues a text with a model on this engine: `model`, or its newest snapshot. In
    place of an engine the address may name a model.
    """
    where, choice = await sync_to_async(find_asked)(engine, body.model)
    where = where or await find_engine(choice)
    return await complete(current_member(request), where, choice, body)


@router.post("/engines/{path:engine}/{action}", include_in_schema=False)
def engine_action(request: HttpRequest, engine: str, action: str) -> NoReturn:
    """Refuses what OpenAI's engines did beside completions."""
    raise ApiError(
        404,
        f"Engines do not answer {action[:40]!r} here: only completions. Ask "
        "/v1/engines/ENGINE/completions or /v1/completions.",
        code="not_found",
    )


@router.get("/engines/{path:engine}", response=answers(EngineShape))
def retrieve_engine(request: HttpRequest, engine: str) -> Any:
    """Returns an engine. Old clients ask for models by this address too."""
    titles = engine_titles()
    name = engine if engine in titles else find_written(engine).name
    return {"id": name, "title": titles.get(name, name)}


def find_asked(engine: str, model: str | None) -> tuple[Engine | None, ModelChoice]:
    """Returns the model to ask, and the engine if the address names one.

    Raises UserError or ApiError if the address names neither.
    """
    if engine not in engine_titles():
        written = find_written(engine)
        return None, find_model(model) if model else written
    if model is None:
        model = default_model(engine)
    choice = find_model(model, engine=engine)
    home = choice.snapshot.job.engine if choice.snapshot else engine
    if home != engine:
        raise UserError(
            f"The model {model[:100]!r} is not on the engine {engine} but on {home}.",
            field="model",
        )
    if choice.snapshot is None and not get_engine(engine).is_remote:
        return None, choice
    return get_engine(engine), choice


def default_model(engine: str) -> str:
    newest = Snapshot.objects.filter(job__engine=engine).first()
    return newest.uid if newest else DEFAULT_MODEL


def find_written(name: str) -> ModelChoice:
    """Returns the model that the address names in place of an engine. Clients write a
    space there as a plus sign.
    """
    for written in (name, name.replace("+", " ")):
        with suppress(UnknownModelError):
            return find_model(written)
    return not_found("engine or model", name, param="engine")
