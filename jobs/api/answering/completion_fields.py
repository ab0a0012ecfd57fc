"""Reads fields of completions that clients may write in several ways."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from finetune_site.common.parsing import small_int
from jobs.serving.request import (
    MAX_BIAS,
    MAX_BIASES,
    MAX_PROMPT_CHARACTERS,
    MAX_STOP_CHARACTERS,
    MAX_STOPS,
    MAX_TOKEN_ID,
)

MAX_PROMPTS = 256

TOKEN = {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID}
TEXT = {"type": "string", "maxLength": MAX_PROMPT_CHARACTERS}
STOP = {"type": "string", "maxLength": MAX_STOP_CHARACTERS}

PROMPT_WORDS = (
    "give a text, a list of texts, a list of tokens or a list of such lists; "
    f"{MAX_PROMPTS} prompts at most, of {MAX_PROMPT_CHARACTERS:,} characters at most"
)
CONTENT_WORDS = (
    "give a text, or a list of parts of the type text: these models read nothing "
    f"else; {MAX_PROMPT_CHARACTERS:,} characters at most"
)
BIAS_WORDS = (
    f"give an object of {MAX_BIASES:,} tokens at most, each with a number from "
    f"{-MAX_BIAS:g} to {MAX_BIAS:g}"
)
STOP_WORDS = (
    f"give a text or a list of {MAX_STOPS} texts at most, each of "
    f"{MAX_STOP_CHARACTERS} characters at most"
)


@dataclass(frozen=True)
class Written:
    """A kind of field. `read` returns its value, or None for what it does not take."""

    read: Callable[[Any], Any]
    words: str
    schemas: list[dict[str, Any]] = field(hash=False)

    def check(self, value: Any) -> Any:
        if value is None:
            return None
        read = self.read(value)
        if read is None:
            raise PydanticCustomError("form", "{words}", {"words": self.words})
        return read

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [*self.schemas, {"type": "null"}]}


def read_prompts(value: Any) -> list[str | list[int]] | None:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        return None
    if all(map(_is_token, value)):
        value = [value]
    if len(value) > MAX_PROMPTS or not all(map(_is_prompt, value)):
        return None
    return value


def read_stops(value: Any) -> list[str] | None:
    """Returns the stop texts without empty ones, at which every answer would end."""
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS:
        return None
    if not all(_is_text(stop, MAX_STOP_CHARACTERS) for stop in stops):
        return None
    return [stop for stop in stops if stop]


def read_biases(value: Any) -> dict[int, float] | None:
    """Returns the bias of each token. The tokens are keys, so JSON has them as text."""
    if not isinstance(value, dict) or len(value) > MAX_BIASES:
        return None
    biases = {small_int(token): bias for token, bias in value.items()}
    if not all(map(_is_token, biases)) or not all(map(_is_bias, biases.values())):
        return None
    return {token: float(bias) for token, bias in biases.items() if token is not None}


def read_content(value: Any) -> str | None:
    """Returns the text of a chat's message, which may be given in several parts."""
    if isinstance(value, list):
        parts = [part if isinstance(part, dict) else {} for part in value]
        texts = [part.get("text") for part in parts if part.get("type") == "text"]
        if len(texts) < len(value) or not all(isinstance(text, str) for text in texts):
            return None
        value = "".join(map(str, texts))
    return value if _is_text(value, MAX_PROMPT_CHARACTERS) else None


def _is_prompt(value: Any) -> bool:
    if not isinstance(value, list):
        return _is_text(value, MAX_PROMPT_CHARACTERS)
    return 0 < len(value) <= MAX_PROMPT_CHARACTERS and all(map(_is_token, value))


def _is_token(value: Any) -> bool:
    # Python takes true for 1.
    return type(value) is int and 0 <= value <= MAX_TOKEN_ID


def _is_bias(value: Any) -> bool:
    return type(value) in (int, float) and -MAX_BIAS <= value <= MAX_BIAS


def _is_text(value: Any, longest: int) -> bool:
    """Returns whether it is text. JSON may hold halves of characters, which are not."""
    if not isinstance(value, str) or len(value) > longest:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _listed(items: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


TOKENS = _listed(TOKEN, 1, MAX_PROMPT_CHARACTERS)
Prompts = Annotated[
    list[str | list[int]] | None,
    Written(
        read_prompts,
        PROMPT_WORDS,
        [TEXT, TOKENS, _listed({"anyOf": [TEXT, TOKENS]}, 1, MAX_PROMPTS)],
    ),
]
Stops = Annotated[
    list[str] | None,
    Written(read_stops, STOP_WORDS, [STOP, _listed(STOP, 0, MAX_STOPS)]),
]
PART = {
    "type": "object",
    "properties": {"type": {"type": "string", "enum": ["text"]}, "text": TEXT},
    "required": ["type", "text"],
}
Content = Annotated[
    str | None,
    Written(read_content, CONTENT_WORDS, [TEXT, {"type": "array", "items": PART}]),
]
BIAS = {"type": "number", "minimum": -MAX_BIAS, "maximum": MAX_BIAS}
Biases = Annotated[
    dict[int, float] | None,
    Written(
        read_biases,
        BIAS_WORDS,
        [
            {
                "type": "object",
                "propertyNames": {"pattern": "^[0-9]{1,9}$"},
                "additionalProperties": BIAS,
                "maxProperties": MAX_BIASES,
            }
        ],
    ),
]
