"""What may be asked of the model server, and the limits of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.trainer.contract.spec import ModelSource

MAX_PROMPT_CHARACTERS = 100_000
MAX_TOKENS = 32_768
MAX_BEST_OF = 32
# More than people need, because a chat's template adds some of its own.
MAX_STOPS = 8
MAX_STOP_CHARACTERS = 200
MAX_TEMPERATURE = 2.0
MAX_PENALTY = 2.0
MAX_BIAS = 100.0
MAX_BIASES = 1024
MAX_LOGPROBS = 20
MAX_TOKEN_ID = 2**31 - 1


class RequestError(ValueError):
    """A request that cannot be answered.

    `kind` says where the fault lies; STATUS_OF_KIND in app.py lists the kinds.
    """

    def __init__(
        self, message: str, kind: str = "request", field: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.field = field


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """A request for one or several completions of a prompt."""

    model: ModelSource
    # A text, or the ids of tokens.
    prompt: str | tuple[int, ...] = ""
    # Whether a prompt that is too long is refused, instead of read from its end only.
    whole_prompt: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    # 0: only the prompt is read, for those who want its own chances.
    max_tokens: int = 16
    stop: tuple[str, ...] = field(default=())
    stop_tokens: tuple[int, ...] = field(default=())
    seed: int | None = None
    # How many answers to give, and of how many these are to be the best.
    n: int = 1
    best_of: int | None = None
    # How many of the likeliest tokens to tell with each token.
    logprobs: int | None = None
    # Whether the answer begins with the prompt.
    echo: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    # The number of the person who asks: people share the turns. None: the request
    # counts as a person of its own.
    asker: int | None = None

    @property
    def num_answers(self) -> int:
        """How many answers are made."""
        return self.best_of or self.n


def parse(body: Any) -> CompletionRequest:
    """Returns the request in a JSON body.

    Raises RequestError, which names the field that is wrong.
    """
    if not isinstance(body, dict):
        raise RequestError("The body must be a JSON object")
    values = dict(body)
    try:
        for name in ("stop", "stop_tokens"):
            values[name] = tuple(values.get(name, ()))
        if not isinstance(values.get("prompt", ""), str):
            values["prompt"] = tuple(values["prompt"])
        request = CompletionRequest(
            model=ModelSource(**values.pop("model", {})),
            logit_bias=_read_bias(values.pop("logit_bias", {})),
            **values,
        )
    except TypeError as error:
        raise RequestError(f"A field is missing or unknown: {error}") from None
    _check(request)
    return request


def _read_bias(given: Any) -> dict[int, float]:
    """Returns the bias by the ids of tokens, which JSON can only write as texts."""
    if not isinstance(given, dict) or len(given) > MAX_BIASES:
        raise _wrong("logit_bias", f"must be an object of {MAX_BIASES:,} at most")
    try:
        bias = {int(token): value for token, value in given.items()}
    except ValueError:
        raise _wrong("logit_bias", "must have the ids of tokens as keys") from None
    for token, value in bias.items():
        _check_number("logit_bias", token, 0, MAX_TOKEN_ID, int)
        _check_number("logit_bias", value, -MAX_BIAS, MAX_BIAS)
    return bias


def _check(request: CompletionRequest) -> None:
    _check_prompt(request.prompt)
    _check_number("temperature", request.temperature, 0, MAX_TEMPERATURE)
    _check_number("top_p", request.top_p, 0, 1)
    _check_number("max_tokens", request.max_tokens, 0, MAX_TOKENS, int)
    _check_number("n", request.n, 1, MAX_BEST_OF, int)
    for name in ("presence_penalty", "frequency_penalty"):
        _check_number(name, getattr(request, name), -MAX_PENALTY, MAX_PENALTY)
    if request.best_of is not None:
        _check_number("best_of", request.best_of, request.n, MAX_BEST_OF, int)
    if request.logprobs is not None:
        _check_number("logprobs", request.logprobs, 0, MAX_LOGPROBS, int)
    if request.seed is not None:
        _check_number("seed", request.seed, 0, 2**63 - 1, int)
    if request.asker is not None:
        _check_number("asker", request.asker, 0, 2**63 - 1, int)
    if len(request.stop) > MAX_STOPS:
        raise _wrong("stop", f"has {len(request.stop)} texts; at most {MAX_STOPS}")
    for text in request.stop:
        _check_text("stop", text, MAX_STOP_CHARACTERS)
    _check_tokens("stop_tokens", request.stop_tokens)
    for path in (request.model.path, request.model.adapter_path or ""):
        _check_text("model", path, 4096)


def _check_prompt(prompt: str | tuple[int, ...]) -> None:
    if isinstance(prompt, str):
        _check_text("prompt", prompt, MAX_PROMPT_CHARACTERS)
    else:
        _check_tokens("prompt", prompt)


def _check_tokens(name: str, tokens: Sequence[int]) -> None:
    if len(tokens) > MAX_PROMPT_CHARACTERS:
        raise _wrong(name, f"is longer than {MAX_PROMPT_CHARACTERS:,} tokens")
    for token in tokens:
        _check_number(name, token, 0, MAX_TOKEN_ID, int)


def _check_text(name: str, value: object, longest: int) -> None:
    if not isinstance(value, str):
        raise _wrong(name, "must be text")
    if len(value) > longest:
        raise _wrong(name, f"is longer than {longest:,} characters")


def _check_number(
    name: str, value: object, least: float, most: float, kind: type = float
) -> None:
    kinds = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise _wrong(name, f"must be a {'whole ' if kind is int else ''}number")
    if not least <= value <= most:
        raise _wrong(name, f"is {value}; it must be from {least} to {most}")


def _wrong(name: str, words: str) -> RequestError:
    return RequestError(f"{name} {words}", field=name)
