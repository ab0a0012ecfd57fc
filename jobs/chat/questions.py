"""Turns a chat into what the model that answers it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asgiref.sync import sync_to_async

from finetune_site.common.errors import UserError
from jobs.base_models.model_folder import fault_of
from jobs.chat.template import find_chat_template
from jobs.selectors.model_names import ModelChoice
from jobs.selectors.sources import model_source
from jobs.trainer.text.chat_text import (
    ASSISTANT,
    CHAT_STOPS,
    ChatMessage,
    chat_prompt,
    chat_segments,
)
from jobs.trainer.text.encoding import encode_prompt, kept_encoder

SYSTEM, DEVELOPER = "system", "developer"


@dataclass(frozen=True)
class ChatQuestion:
    """What a model is asked, and what ends its answer."""

    prompt: str | list[int]
    stop: Sequence[str] = ()
    stop_tokens: Sequence[int] = field(default=())
    # Whether the answer begins with a space that belongs to the template.
    begins_with_space: bool = False


async def chat_question(
    choice: ModelChoice, messages: Sequence[ChatMessage]
) -> ChatQuestion:
    """Returns what the model is asked.

    A base model is asked by its own template, or by the plain one if it has none. A
    snapshot is asked by the plain one, which all chats are trained by here: so it is
    asked in one way, whatever it was trained on before and after. Raises UserError if
    the template cannot write the messages.
    """
    folder = await sync_to_async(_model_folder)(choice)
    template = None
    if folder and choice.snapshot is None:
        template = await sync_to_async(find_chat_template)(folder)
    if template is None:
        return await sync_to_async(_plain)(folder, messages)
    prompt = await template.prompt(
        [
            {
                # Templates do not know the newer name of the same role.
                "role": SYSTEM if message.role == DEVELOPER else message.role,
                "content": message.text,
            }
            for message in messages
        ]
    )
    return ChatQuestion(prompt.tokens, stop_tokens=prompt.stop_tokens)


def _plain(folder: Path | None, messages: Sequence[ChatMessage]) -> ChatQuestion:
    """Returns the question as the plain template writes it.

    If the tokenizer is here, it is tokens, segment by segment as in training.
    """
    prompt: str | list[int] = chat_prompt(messages)
    if folder:
        *read, _ = chat_segments([*messages, ChatMessage(ASSISTANT, "")])
        prompt = encode_prompt(kept_encoder(folder), *(text for text, _ in read))
    return ChatQuestion(prompt, stop=CHAT_STOPS, begins_with_space=True)


def _model_folder(choice: ModelChoice) -> Path | None:
    """Returns the folder with the tokenizer by which the model reads.

    A snapshot of the whole model has its own, since other files may lie in its base
    model's folder by now; one that is elsewhere has the base model's. Returns None if
    no such folder is here.
    """
    snapshot = choice.snapshot
    here = snapshot if snapshot and snapshot.is_here else None
    try:
        folder = Path(model_source(choice.base_model, here).path)
    except UserError:
        return None
    return None if fault_of(folder) else folder
