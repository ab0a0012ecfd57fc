"""Passes clients' questions to an engine, and its answers back."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from asgiref.sync import sync_to_async

from finetune_site.common.errors import UserError
from finetune_site.team.models import Member
from jobs.api.answering.merging import merge
from jobs.engines.base import Engine
from jobs.engines.far_server import FarRefusalError
from jobs.engines.places import place
from jobs.engines.registry import LOCAL, engine_that_has
from jobs.selectors.base_models import get_base_model, models_dir
from jobs.selectors.model_names import ModelChoice, UnknownModelError
from jobs.serving.client import AwayError

Line = dict[str, Any]

# Seconds that a question waits for a model server which restarts, and between tries.
AWAY_SECONDS = 120.0
RETRY_SECONDS = 0.5
# The number of questions of one request that are answered at the same time.
MAX_AT_ONCE = 8
# The number of lines that wait for a client. While it reads none, the engine waits too.
MAX_UNREAD = 256


async def find_engine(choice: ModelChoice) -> Engine:
    """Returns the engine that answers for the model. Raises UserError if none can."""
    return await sync_to_async(_find_engine)(choice)


def _find_engine(choice: ModelChoice) -> Engine:
    if choice.snapshot:
        return engine_that_has(choice.snapshot)
    model = get_base_model(choice.base_model)
    if not model.is_ready(models_dir()):
        raise UserError(
            f"The base model {model.name} {model.why_not_ready(models_dir())}",
            field="model",
        )
    return LOCAL


async def ask(
    member: Member, engine: Engine, choice: ModelChoice, questions: Sequence[Line]
) -> AsyncGenerator[tuple[int, Line]]:
    """Yields the engine's lines as they come, each with its question's position.

    The answers end when the caller stops reading. Raises UserError.
    """
    more = {"asker": member.pk, "base_model": choice.base_model}
    answers = [_answer(engine, choice, question | more) for question in questions]
    merged = merge(answers, max_at_once=MAX_AT_ONCE, max_unread=MAX_UNREAD)
    async with place(member, min(len(questions), MAX_AT_ONCE)), aclosing(merged):
        async for line in merged:
            yield line


async def _answer(
    engine: Engine, choice: ModelChoice, question: Line
) -> AsyncGenerator[Line]:
    """Yields the lines of one answer, the last of which has `done`.

    Asks again while the model server is away, unless a part of the answer is out.
    """
    until = time.monotonic() + AWAY_SECONDS
    begun = False
    while True:
        try:
            given = engine.complete(choice.snapshot, question)
            async with aclosing(given):  # type: ignore[type-var]
                async for line in given:
                    begun = True
                    yield line
                    if "done" in line:
                        return
            return
        except AwayError:
            if begun or time.monotonic() > until:
                raise
        except FarRefusalError as error:
            if choice.snapshot is None or not error.is_unknown:
                raise
            raise UnknownModelError(
                f"The snapshot {choice.snapshot.uid} was deleted on the engine "
                f"{engine.name}.",
                field="model",
            ) from None
        await asyncio.sleep(RETRY_SECONDS)
