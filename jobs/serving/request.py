"""What may be asked of the model server."""

from dataclasses import dataclass, field
from typing import Any

from jobs.trainer.spec import ModelSource

MAX_PROMPT_CHARACTERS = 100_000
MAX_TOKENS = 2048
MAX_ANSWERS = 8
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 200
MAX_TEMPERATURE = 2.0


class RequestError(ValueError):
    """A request that cannot be answered; `kind` says where the fault lies."""

    def __init__(self, message: str, kind: str = "request") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    model: ModelSource
    prompt: str = ""
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 16
    stop: tuple[str, ...] = field(default=())
    seed: int | None = None
    # How many answers.
    n: int = 1


def parse(body: Any) -> CompletionRequest:
    """Raises RequestError naming the field that is wrong."""
    if not isinstance(body, dict):
        raise RequestError("The body must be a JSON object")
    values = dict(body)
    try:
        request = CompletionRequest(
            model=ModelSource(**values.pop("model", {})),
            stop=tuple(values.pop("stop", ())),
            **values,
        )
    except TypeError as error:
        raise RequestError(f"A field is missing or unknown: {error}") from None
    _check(request)
    return request


def _check(request: CompletionRequest) -> None:
    _check_text("prompt", request.prompt, MAX_PROMPT_CHARACTERS)
    _check_number("temperature", request.temperature, 0, MAX_TEMPERATURE)
    _check_number("top_p", request.top_p, 0, 1)
    _check_number("max_tokens", request.max_tokens, 1, MAX_TOKENS, int)
    _check_number("n", request.n, 1, MAX_ANSWERS, int)
    if request.seed is not None:
        _check_number("seed", request.seed, 0, 2**63 - 1, int)
    if len(request.stop) > MAX_STOPS:
        raise RequestError(f"stop has {len(request.stop)} texts; at most {MAX_STOPS}")
    for text in request.stop:
        _check_text("stop", text, MAX_STOP_CHARACTERS)
    for path in (request.model.path, request.model.adapter_path or ""):
        _check_text("model", path, 4096)


def _check_text(name: str, value: object, longest: int) -> None:
    if not isinstance(value, str):
        raise RequestError(f"{name} must be text")
    if len(value) > longest:
        raise RequestError(f"{name} is longer than {longest:,} characters")


def _check_number(
    name: str, value: object, least: float, most: float, kind: type = float
) -> None:
    kinds = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise RequestError(f"{name} must be a {'whole ' if kind is int else ''}number")
    if not least <= value <= most:
        raise RequestError(f"{name} is {value}; it must be from {least} to {most}")
