"""[contract] Lines of files that people bring, in every form that is read here.

Beside the three of examples.py, which versions are kept in, OpenAI's two:

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

# Loss weights of a prompt, which is only read, and of the completion to be learned.
PROMPT_WEIGHTS = (0.0, 1.0)
PROMPT_FORM = '{"prompt": "...", "completion": "..."}'


class LineForm(StrEnum):
    SEGMENTS = "segments"
    PROMPT = "prompt"
    CHAT = "chat"


def read_line(line: str | bytes) -> tuple[LineForm, list[Segment]]:
    """Which form a line has, and its segments. ExampleError says what is wrong."""
    value = read_json(line)
    if not isinstance(value, dict):
        return LineForm.SEGMENTS, segments_of(value)
    if "messages" in value:
        return LineForm.CHAT, chat_segments(read_chat(value))
    if "prompt" in value or "completion" in value:
        return LineForm.PROMPT, prompt_segments(value)
    return LineForm.SEGMENTS, segments_of(value)


def prompt_segments(value: dict[str, Any]) -> list[Segment]:
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
