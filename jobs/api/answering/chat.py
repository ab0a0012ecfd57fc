"""Answers /v1/chat/completions."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from ninja import Router, Schema

from finetune_site.common.errors import UserError
from finetune_site.team.access import current_member
from jobs.api.answering.asking import ask, find_engine
from jobs.api.answering.chat_request import ChatRequest
from jobs.api.answering.completions import Usage, new_head, usage_of, written
from jobs.api.errors import answers
from jobs.api.sse import MAY_STREAM, streamed
from jobs.chat.questions import ChatQuestion, chat_question
from jobs.selectors.model_names import find_model
from jobs.trainer.text.byte_alphabet import BYTES

router = Router(tags=["Chats"])


Line = dict[str, Any]


class TopLogprob(Schema):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Schema):
    content: list[TokenLogprob]
    refusal: None = None


class AnswerMessage(Schema):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(Schema):
    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length"]


class ChatShape(Schema):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


@router.post("/chat/completions", response=answers(ChatShape), openapi_extra=MAY_STREAM)
async def create_chat_completion(request: HttpRequest, body: ChatRequest) -> Any:
    """Writes the next message of a chat, by the base model's own template or a plain
    one. With `stream` it comes as server-sent events.
    """
    messages = body.chat()
    choice = await sync_to_async(find_model)(body.model)
    engine = await find_engine(choice)
    asked = await chat_question(choice, messages)
    lines = ask(current_member(request), engine, choice, [body.question(asked)])
    said = _spoken(lines, asked, body.top_logprobs or 0)
    if body.stream:
        head = new_head(choice, "chatcmpl", "chat.completion.chunk")
        return await streamed(_chunks(said, head, with_usage=body.includes_usage))
    head = new_head(choice, "chatcmpl", "chat.completion")
    return written(head | await _whole(said))


async def _spoken(
    lines: AsyncGenerator[tuple[int, Line]], asked: ChatQuestion, num_top: int
) -> AsyncGenerator[Line]:
    """Yields the lines as a chat tells them: without the space that the template puts
    first. Errors name the field `messages`, since a chat has no prompt.
    """
    begun: set[int] = set()
    async with aclosing(lines):
        try:
            async for _, line in lines:
                first = bool(line.get("text")) and line["index"] not in begun
                if first:
                    begun.add(line["index"])
                if told := line.get("logprobs"):
                    line = line | {"logprobs": chat_logprobs(told, num_top)}
                if first and asked.begins_with_space:
                    line = without_first_space(line)
                yield line
        except UserError as error:
            if error.field == "prompt":
                error.field = "messages"
            raise


def without_first_space(line: Line) -> Line:
    """Returns the line without a space before its text, and before its first token.

    A token that is that space alone goes.
    """
    text = line["text"].removeprefix(" ")
    if text == line["text"] or not line.get("logprobs"):
        return line | {"text": text}
    first, *others = line["logprobs"]["content"]
    tops = [_without_space(top) for top in first["top_logprobs"]]
    first = _without_space(first) | {"top_logprobs": tops}
    content = [first, *others] if first["token"] else others
    return line | {"text": text, "logprobs": line["logprobs"] | {"content": content}}


def _without_space(named: dict[str, Any]) -> dict[str, Any]:
    return named | _named(named["token"].removeprefix(" "), named["logprob"])


async def _whole(lines: AsyncGenerator[Line]) -> dict[str, Any]:
    choices: dict[int, dict[str, Any]] = {}
    usage: dict[str, int] = {}
    async with aclosing(lines):
        async for line in lines:
            if "done" in line:
                usage = usage_of([line["usage"]])
                continue
            choice = choices.setdefault(line["index"], _empty_choice(line))
            choice["message"]["content"] += line["text"]
            choice["finish_reason"] = line["finish_reason"]
            if logprobs := line.get("logprobs"):
                choice["logprobs"]["content"] += logprobs["content"]
    return {"choices": [choices[index] for index in sorted(choices)], "usage": usage}


def _empty_choice(line: Line) -> dict[str, Any]:
    empty: dict[str, Any] = {"content": [], "refusal": None}
    return {
        "index": line["index"],
        "message": {"role": "assistant", "content": "", "refusal": None},
        "logprobs": empty if line.get("logprobs") else None,
    }


async def _chunks(
    lines: AsyncGenerator[Line], head: dict[str, Any], *, with_usage: bool
) -> AsyncGenerator[dict[str, Any]]:
    """Yields the chunks of all choices: their roles, their texts, why they ended."""
    begun: set[int] = set()
    usage: dict[str, int] = {}
    extra = {"usage": None} if with_usage else {}
    async with aclosing(lines):
        async for line in lines:
            if "done" in line:
                usage = usage_of([line["usage"]])
                continue
            index = line["index"]
            if index not in begun:
                begun.add(index)
                first = {"role": "assistant", "content": ""}
                yield head | {"choices": [_delta(index, first)]} | extra
            if line["text"] or line.get("logprobs"):
                said = _delta(index, {"content": line["text"]}, line.get("logprobs"))
                yield head | {"choices": [said]} | extra
            if line["finish_reason"]:
                last = _delta(index, {}) | {"finish_reason": line["finish_reason"]}
                yield head | {"choices": [last]} | extra
    if with_usage:
        yield head | {"choices": [], "usage": usage}


def _delta(index: int, delta: dict[str, str], logprobs: Any = None) -> dict[str, Any]:
    return {
        "index": index,
        "delta": delta,
        "logprobs": logprobs,
        "finish_reason": None,
    }


def chat_logprobs(told: dict[str, Any], num_top: int) -> dict[str, Any]:
    """Returns the logprobs of completions in the shape of chats. They have exactly as
    many of the likeliest tokens as were asked for, with or without the chosen one.
    """
    tops = told["top_logprobs"] or [{}] * len(told["tokens"])
    tokens = zip(told["tokens"], told["token_logprobs"], tops, strict=True)
    content = [
        {
            **_named(token, logprob),
            "top_logprobs": [_named(*one) for one in list(top.items())[:num_top]],
        }
        for token, logprob, top in tokens
    ]
    return {"content": content, "refusal": None}


def _named(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(bytes_of(token))}


def bytes_of(token: str) -> bytes:
    """Returns the bytes of a token that is told by its name."""
    named = token.removeprefix(BYTES)
    if named == token:
        return token.encode()
    return bytes.fromhex(named.replace("\\x", ""))
