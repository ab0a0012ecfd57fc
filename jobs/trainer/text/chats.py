"""[contract] Reads lines that hold a chat, as OpenAI's clients upload them.

{"messages": [{"role": "user", "content": "2 + 2?"},
              {"role": "assistant", "content": "4", "weight": 1}]}
"""

from typing import Any

from jobs.trainer.text.chat_text import ASSISTANT, LABELS, ChatMessage
from jobs.trainer.text.examples import (
    MAX_LOSS_WEIGHT,
    MIN_LOSS_WEIGHT,
    ExampleError,
    is_loss_weight,
    kind_of,
)

CHAT_FORM = (
    '{"messages": [{"role": "user", "content": "..."}, '
    '{"role": "assistant", "content": "..."}]}'
)
TOOL_ROLES = {"tool", "function"}
# Keys about tools. They do no harm as long as they are empty.
TOOL_KEYS = {"tools", "functions", "tool_calls", "function_call", "tool_call_id"}
LINE_KEYS = {"messages", "parallel_tool_calls"}
# A name is allowed, but it is not written into the text that is trained.
MESSAGE_KEYS = {"role", "content", "weight", "name"}
NO_TOOLS = (
    "calls of tools cannot be trained here, because chats are written out as plain "
    "text; leave them out or delete the line"
)


def read_chat(value: dict[str, Any]) -> list[ChatMessage]:
    """Returns the messages of a line's JSON value.

    Raises ExampleError, which says which message is wrong and how.
    """
    _check_keys(value, LINE_KEYS, "")
    messages = value["messages"]
    if not isinstance(messages, list):
        raise ExampleError(f'"messages" is {kind_of(messages)}; write {CHAT_FORM}')
    chat = [_message(one, number) for number, one in enumerate(messages, start=1)]
    if not any(message.role == ASSISTANT for message in chat):
        raise ExampleError(
            "no message is the assistant's, so there is nothing to learn; write "
            f"{CHAT_FORM}"
        )
    return chat


def _message(value: Any, number: int) -> ChatMessage:
    if not isinstance(value, dict):
        raise ExampleError(
            f"message {number} is {kind_of(value)}; write "
            '{"role": "user", "content": "..."}'
        )
    where = f"message {number}: "
    role = _role(value.get("role"), where)
    _check_keys(value, MESSAGE_KEYS, where)
    text = _text(value.get("content"), where)
    return ChatMessage(role, text, _weight(value.get("weight"), role, where))


def _role(role: Any, where: str) -> str:
    if isinstance(role, str) and role in LABELS:
        return role
    if isinstance(role, str) and role in TOOL_ROLES:
        raise ExampleError(where + NO_TOOLS)
    raise ExampleError(
        f"{where}the role is {_shown(role)}; write system, user or assistant"
    )


def _check_keys(value: dict[str, Any], known: set[str], where: str) -> None:
    """Raises ExampleError for an unknown key, unless its value is empty.

    Clients that write out whole answers have many empty keys.
    """
    if value.keys() <= known:
        return
    for key, found in value.items():
        if key in known or found in (None, [], {}):
            continue
        if key in TOOL_KEYS:
            raise ExampleError(f'{where}"{key}": {NO_TOOLS}')
        raise ExampleError(f'{where}unknown key "{key}"; write {CHAT_FORM}')


def _text(content: Any, where: str) -> str:
    """Returns a message's text, which may be given as a list of its parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        return "".join(_part(part, where) for part in content)
    raise ExampleError(f"{where}the content is {kind_of(content)}; write a text")


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get("text") if kind == "text" else None
    if not isinstance(text, str):
        found = f"of type {_shown(kind)}" if kind else kind_of(part)
        raise ExampleError(
            f"{where}a part of the content is {found}; only texts can be trained, as "
            '{"type": "text", "text": "..."}'
        )
    return text


def _weight(weight: Any, role: str, where: str) -> float:
    """Returns the weight of a message, 1 if none is given.

    Raises ExampleError for a weight above 0 of any message but the assistant's.
    """
    if weight is None:
        return 1.0
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        raise ExampleError(f"{where}the weight is {kind_of(weight)}; write 0 or 1")
    if not is_loss_weight(weight):
        raise ExampleError(
            f"{where}the weight is {weight}; write 0 (read, not learned) or from "
            f"{MIN_LOSS_WEIGHT:g} to {MAX_LOSS_WEIGHT:g} (1 = learned)"
        )
    if weight and role != ASSISTANT:
        raise ExampleError(
            f"{where}it has a weight, but only the assistant's messages are learned"
        )
    return float(weight)


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else kind_of(value)
