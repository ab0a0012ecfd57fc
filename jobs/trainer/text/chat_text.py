"""[contract] Writes chats as text by one plain template, for training and for asking.

    System: Answer in one word.

    User: Which is the capital of Kenya?

    Assistant: Nairobi

The template needs no control tokens, so every base model can read it. An answer ends
with the end token, or where the model begins another turn: `CHAT_STOPS` are for that.
"""

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from jobs.trainer.text.examples import Segment

ASSISTANT = "assistant"
LABELS = {
    "system": "System",
    "developer": "System",
    "user": "User",
    ASSISTANT: "Assistant",
}
BETWEEN_TURNS = "\n\n"
CHAT_STOPS = tuple(
    f"{BETWEEN_TURNS}{label}:" for label in dict.fromkeys(LABELS.values())
)

_TURN = re.compile(f"{BETWEEN_TURNS}({'|'.join(LABELS.values())}):")


class ChatMessage(NamedTuple):
    """One message of a chat. `role` is a key of LABELS.

    `weight` is the loss weight, which matters for the assistant's messages only.
    """

    role: str
    text: str
    weight: float = 1.0


def chat_prompt(messages: Sequence[ChatMessage]) -> str:
    """Returns the prompt for the assistant's next answer.

    The answer begins with a space, which belongs to the template.
    """
    turns = [_head(message.role) + _body(message) for message in messages]
    return BETWEEN_TURNS.join([*turns, _head(ASSISTANT)])


def chat_segments(messages: Sequence[ChatMessage]) -> list[Segment]:
    """Returns a chat as segments, where only the assistant's answers have a weight.

    There must be at least one message. The text before a learned segment is the
    `chat_prompt` of the messages before it. An answer that is not the last message is
    learned together with the beginning of the next turn, so that the model learns where
    answers end.
    """
    segments: list[Segment] = []
    read = _head(messages[0].role)
    for message, following in zip_longest(messages, messages[1:]):
        text = _body(message)
        if following:
            text += BETWEEN_TURNS + _head(following.role)
        if message.role != ASSISTANT or not message.weight:
            read += text
            continue
        if read:
            segments.append((read, 0.0))
        segments.append((text, message.weight))
        read = ""
    return [*segments, (read, 0.0)] if read else segments


def _head(role: str) -> str:
    return f"{LABELS[role]}:"


def _body(message: ChatMessage) -> str:
    """Returns a message's text behind a space.

    If the message quotes a turn, another space before its label keeps it from being
    one.
    """
    return " " + _TURN.sub(rf"{BETWEEN_TURNS} \1:", message.text)
