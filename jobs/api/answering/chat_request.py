"""Reads the body of a request for the next message of a chat."""

from typing import Annotated, Any, Literal

from pydantic import Field

from finetune_site.common.errors import UserError
from jobs.api.answering.completion_fields import Content
from jobs.api.answering.completion_request import MaxTokens, SamplingFields
from jobs.api.fields import Between, RequestObject, Text
from jobs.chat.questions import ChatQuestion
from jobs.serving.request import MAX_LOGPROBS, MAX_PROMPT_CHARACTERS
from jobs.trainer.text.chat_text import ChatMessage

# OpenAI goes on to the context's end; a base model may never end by itself.
DEFAULT_MAX_TOKENS = 512
MAX_MESSAGES = 1000
# The logprobs of chats are about this many times as long as those of completions.
WORDINESS = 3


class MessageRequest(RequestObject):
    role: Literal["system", "developer", "user", "assistant"]
    content: Content = None

    def message(self) -> ChatMessage:
        return ChatMessage(self.role, self.content or "")


class ResponseFormat(RequestObject):
    type: str = "text"


class ChatRequest(SamplingFields):
    model: Text
    messages: Annotated[
        list[MessageRequest], Field(min_length=1, max_length=MAX_MESSAGES)
    ]
    max_tokens: MaxTokens = None
    max_completion_tokens: MaxTokens = Field(
        None, description=f"{DEFAULT_MAX_TOKENS} unless given."
    )
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Between(0, MAX_LOGPROBS)] = None
    tools: list[Any] | None = Field(None, description="Not supported.")
    functions: list[Any] | None = Field(None, description="Not supported.")
    response_format: ResponseFormat | None = Field(None, description="Only text.")

    def chat(self) -> list[ChatMessage]:
        """Returns the messages. Raises UserError if this cannot be asked."""
        self._check()
        messages = [message.message() for message in self.messages]
        if sum(len(message.text) for message in messages) > MAX_PROMPT_CHARACTERS:
            raise UserError(
                f"The messages have more than {MAX_PROMPT_CHARACTERS:,} characters. "
                "Leave the oldest away.",
                field="messages",
            )
        return messages

    def question(self, asked: ChatQuestion) -> dict[str, Any]:
        """Returns the question as engines take it."""
        sampling = self.sampling()
        return sampling | {
            "prompt": asked.prompt,
            "stop": [*sampling["stop"], *asked.stop],
            "stop_tokens": list(asked.stop_tokens),
            "max_tokens": self._num_tokens,
            "logprobs": (self.top_logprobs or 0) if self.logprobs else None,
        }

    @property
    def _num_tokens(self) -> int:
        wanted = (self.max_completion_tokens, self.max_tokens, DEFAULT_MAX_TOKENS)
        return next(one for one in wanted if one is not None)

    def _check(self) -> None:
        for name in ("tools", "functions"):
            if getattr(self, name):
                raise UserError(
                    f"Models cannot call {name} here. Leave {name} away.", field=name
                )
        if self.response_format and self.response_format.type != "text":
            raise UserError(
                "Answers are text; they cannot be held to a format. Leave "
                "response_format away.",
                field="response_format",
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise UserError(
                "top_logprobs needs logprobs to be true.", field="top_logprobs"
            )
        num_logprobs = 1 + (self.top_logprobs or 0) if self.logprobs else 0
        self.check_size(
            (self.n or 1) * self._num_tokens,
            1 + WORDINESS * num_logprobs,
            "max_completion_tokens" if self.max_completion_tokens else "max_tokens",
        )
