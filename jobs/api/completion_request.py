"""The body that asks for completions, and the questions it means to an engine."""

from typing import Annotated, Any

from ninja import Schema
from pydantic import Field

from finetune_site.errors import UserError
from jobs.api.completion_fields import Biases, Prompts, Stops
from jobs.api.fields import Between, Text
from jobs.serving.request import (
    MAX_LOGPROBS,
    MAX_PENALTY,
    MAX_ROWS,
    MAX_STOPS,
    MAX_TEMPERATURE,
    MAX_TOKEN_ID,
    MOST_TOKENS,
)

DEFAULT_MAX_TOKENS = 16
# Engines know no more of them, and none below 0.
SEEDS = 2**63

Token = Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]
Penalty = Annotated[float | None, Between(-MAX_PENALTY, MAX_PENALTY, whole=False)]
Rows = Annotated[int | None, Between(1, MAX_ROWS)]
MaxTokens = Annotated[int | None, Between(0, MOST_TOKENS)]


class StreamOptions(Schema):
    include_usage: bool | None = None


class SamplingFields(Schema):
    """How to answer: what completions and chats have in common."""

    temperature: Annotated[float | None, Between(0, MAX_TEMPERATURE, whole=False)] = (
        None
    )
    top_p: Annotated[float | None, Between(0, 1, whole=False)] = None
    n: Rows = None
    stop: Stops = None
    seed: Annotated[int, Field(ge=-SEEDS, lt=SEEDS)] | None = None
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    logit_bias: Biases = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def includes_usage(self) -> bool:
        """In the last chunk of a stream."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self) -> dict[str, Any]:
        """As engines take it, with OpenAI's defaults."""
        bias = self.logit_bias or {}
        return {
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "n": self.n or 1,
            "stop": self.stop or [],
            "seed": None if self.seed is None else self.seed % SEEDS,
            "presence_penalty": self.presence_penalty or 0.0,
            "frequency_penalty": self.frequency_penalty or 0.0,
            "logit_bias": {str(token): value for token, value in bias.items()},
            "whole_prompt": True,
        }


class EngineCompletionRequest(SamplingFields):
    """Of /v1/engines/{engine}/completions, where the engine may stand for a model."""

    model: Text | None = None
    prompt: Prompts = Field(None, description="null stands for the end token.")
    max_tokens: MaxTokens = Field(
        None, description=f"{DEFAULT_MAX_TOKENS} unless given."
    )
    best_of: Rows = None
    logprobs: Annotated[int | None, Between(0, MAX_LOGPROBS)] = None
    echo: bool | None = None
    suffix: str | None = Field(None, description="Not supported.")
    # Ours: tokens with which an answer ends, as with the end token.
    stop_tokens: Annotated[list[Token], Field(max_length=MAX_STOPS)] | None = None

    def questions(self) -> list[dict[str, Any]]:
        """One for each prompt. UserError: this cannot be asked."""
        self._check()
        max_tokens = self.max_tokens
        asked = self.sampling() | {
            "max_tokens": DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens,
            "best_of": self.best_of,
            "logprobs": self.logprobs,
            "echo": bool(self.echo),
            "stop_tokens": self.stop_tokens or [],
        }
        return [asked | {"prompt": prompt} for prompt in self.prompt or [""]]

    def _check(self) -> None:
        n = self.n or 1
        if self.suffix:
            raise UserError(
                "Text cannot be put in before a suffix: these models only continue "
                "texts. Leave suffix away.",
                field="suffix",
            )
        if self.best_of and self.best_of < n:
            raise UserError(
                f"best_of is {self.best_of}, and n answers ({n}) are wanted of these. "
                "Set best_of to n or more.",
                field="best_of",
            )
        if self.stream and self.best_of and self.best_of > n:
            raise UserError(
                "The best answers are known once all are complete, so they cannot be "
                "streamed. Leave stream or best_of away.",
                field="best_of",
            )


class CompletionRequest(EngineCompletionRequest):
    model: Text
