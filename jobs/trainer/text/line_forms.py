"""[contract] Reads the lines of files that people upload, in every form.

These are the three forms of examples.py, and OpenAI's two:

    {"prompt": "text", "completion": "text"}
    {"messages": [{"role": "user", "content": "text"}, ...]}
"""

from enum import StrEnum
from typing import Any

from jobs.trainer.text.chat_text import chat_segments
from jobs.trainer.text.chats import read_chat
from jobs.trainer.text.examples import (
    ExampleError,
    Segment,
    kind_of,
    read_json,
    segments_of,
)

# Pages and drafts deal with each segment by itself.
MAX_SEGMENTS = 10_000
# The loss weights of a prompt, which is only read, and of its completion.
PROMPT_WEIGHTS = (0.0, 1.0)
# Each form has one of these keys.
EXAMPLE_KEYS = {"data", "prompt", "completion", "messages"}
PROMPT_FORM = '{"prompt": "...", "completion": "..."}'


class LineForm(StrEnum):
    """The form of a line: segments, a prompt with its completion, or a chat."""

    SEGMENTS = "segments"
    PROMPT = "prompt"
    CHAT = "chat"


def read_line(line: str | bytes) -> tuple[LineForm, list[Segment]]:
    """Returns the form of a line, and its segments; raises ExampleError."""
    form, segments = _read(read_json(line, unique=True))
    if len(segments) > MAX_SEGMENTS:
        raise ExampleError(
            f"it has {len(segments):,} segments, and {MAX_SEGMENTS:,} are the most; "
            "join some, or make several examples of it"
        )
    return form, segments


def _read(value: Any) -> tuple[LineForm, list[Segment]]:
    if isinstance(value, str):
        _refuse_json_within(value)
    if not isinstance(value, dict):
        return LineForm.SEGMENTS, segments_of(value)
    if "messages" in value:
        return LineForm.CHAT, chat_segments(read_chat(value))
    if "prompt" in value or "completion" in value:
        return LineForm.PROMPT, prompt_segments(value)
    return LineForm.SEGMENTS, segments_of(value)


def _refuse_json_within(text: str) -> None:
    """Raises ExampleError for a text that is an example written as JSON, however often
    it was encoded.
    """
    value: Any = text
    while isinstance(value, str):
        try:
            value = read_json(value)
        except ExampleError:
            return
    if isinstance(value, dict) and not EXAMPLE_KEYS.isdisjoint(value):
        raise ExampleError(
            "the line is a text that holds JSON, which was encoded twice or more; "
            "write the object itself, without quotes around it and backslashes within"
        )


def prompt_segments(value: dict[str, Any]) -> list[Segment]:
    """Returns a prompt and its completion as two segments; raises ExampleError."""
    unknown = [key for key in value if key not in {"prompt", "completion"}]
    if unknown:
        raise ExampleError(
            f'unknown key "{unknown[0]}" beside prompt and completion; write '
            f"{PROMPT_FORM}"
        )
    texts = [_text(value, "prompt"), _text(value, "completion")]
    if not texts[1]:
        raise ExampleError("the completion is empty; add what is to be learned")
    return list(zip(texts, PROMPT_WEIGHTS, strict=True))


def _text(value: dict[str, Any], key: str) -> str:
    if key not in value:
        raise ExampleError(f'"{key}" is missing; write {PROMPT_FORM}')
    text = value[key]
    if not isinstance(text, str):
        raise ExampleError(f'"{key}" is {kind_of(text)}; put it into quotes')
    return text
