"""Turns the body of a request for completions into questions for an engine."""

from typing import Annotated, Any

from pydantic import Field

from finetune_site.common.errors import UserError
from jobs.api.answering.completion_fields import Biases, Prompts, Stops
from jobs.api.fields import Between, RequestObject, Text
from jobs.serving.request import (
    MAX_BEST_OF,
    MAX_LOGPROBS,
    MAX_PENALTY,
    MAX_TEMPERATURE,
    MAX_TOKEN_ID,
    MAX_TOKENS,
)

DEFAULT_MAX_TOKENS = 16
# The limit of a whole answer counts each token, and each logprob that is told of it.
# While a longer answer is written, the web process could serve nobody else.
MAX_TOLD = 600_000
CHARACTERS_PER_TOKEN = 4
MAX_STOP_TOKENS = 4
# Engines know seeds from 0 up to this.
SEEDS = 2**63

Token = Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]
Penalty = Annotated[float | None, Between(-MAX_PENALTY, MAX_PENALTY, whole=False)]
Rows = Annotated[int | None, Between(1, MAX_BEST_OF)]
MaxTokens = Annotated[int | None, Between(0, MAX_TOKENS)]


class StreamOptions(RequestObject):
    include_usage: bool | None = None


class SamplingFields(RequestObject):
    """The fields that completions and chats have in common: how to answer."""

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
        """Returns whether the last chunk of a stream tells the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self) -> dict[str, Any]:
        """Returns the fields as engines take them, with OpenAI's defaults."""
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

    def check_size(self, num_tokens: int, num_told: int, field: str) -> None:
        """Raises UserError if a whole answer may be too long. Streams have no limit."""
        if not self.stream and num_tokens * num_told > MAX_TOLD:
            raise UserError(
                "Prompts, answers, their tokens and the logprobs of each come to "
                f"{num_tokens * num_told:,} together; a whole answer may have "
                f"{MAX_TOLD:,}. Ask for less of one, send fewer prompts at once, or "
                "set stream.",
                field=field,
            )


class EngineCompletionRequest(SamplingFields):
    """The body of /v1/engines/{engine}/completions; the engine may be a model."""

    model: Text | None = None
    prompt: Prompts = Field(None, description="null stands for the end token.")
    max_tokens: MaxTokens = Field(
        None, description=f"{DEFAULT_MAX_TOKENS} unless given."
    )
    best_of: Rows = None
    logprobs: Annotated[int | None, Between(0, MAX_LOGPROBS)] = None
    echo: bool | None = None
    suffix: str | None = Field(None, description="Not supported.")
    # This field is our own: an answer ends at these tokens as it does at the end token.
    stop_tokens: Annotated[list[Token], Field(max_length=MAX_STOP_TOKENS)] | None = None

    def questions(self) -> list[dict[str, Any]]:
        """Returns a question for each prompt. Raises UserError if it is impossible."""
        self._check()
        given = self.max_tokens
        max_tokens = DEFAULT_MAX_TOKENS if given is None else given
        prompts = self.prompt or [""]
        self._check_size(prompts, max_tokens)
        asked = self.sampling() | {
            "max_tokens": max_tokens,
            "best_of": self.best_of,
            "logprobs": self.logprobs,
            "echo": bool(self.echo),
            "stop_tokens": self.stop_tokens or [],
        }
        return [asked | {"prompt": prompt} for prompt in prompts]

    def _check_size(self, prompts: list[str | list[int]], max_tokens: int) -> None:
        num_tokens = len(prompts) * max_tokens
        if self.echo:
            num_tokens += sum(map(num_prompt_tokens, prompts))
        num_tokens *= self.best_of or self.n or 1
        num_told = 1 if self.logprobs is None else 2 + self.logprobs
        self.check_size(num_tokens, num_told, "max_tokens" if max_tokens else "prompt")

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


def num_prompt_tokens(prompt: str | list[int]) -> int:
    """Returns about how many tokens the prompt has."""
    if isinstance(prompt, str):
        return len(prompt) // CHARACTERS_PER_TOKEN
    return len(prompt)


class CompletionRequest(EngineCompletionRequest):
    model: Text
