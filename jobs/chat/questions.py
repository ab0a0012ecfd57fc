"""Turns a chat into what the model that answers it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from asgiref.sync import sync_to_async

from jobs.chat.template import find_chat_template
from jobs.selectors.base_models import find_base_model, models_dir
from jobs.selectors.model_names import ModelChoice
from jobs.trainer.text.chat_text import (
    ASSISTANT,
    CHAT_STOPS,
    ChatMessage,
    chat_prompt,
    chat_segments,
)
from jobs.trainer.text.encoding import TextEncoder, encode_prompt, load_encoder

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
        prompt = encode_prompt(_encoder(folder), *(text for text, _ in read))
    return ChatQuestion(prompt, stop=CHAT_STOPS, begins_with_space=True)


@lru_cache(maxsize=2)
def _encoder(folder: Path) -> TextEncoder:
    return load_encoder(folder)


def _model_folder(choice: ModelChoice) -> Path | None:
    """Returns the folder of the base model, whose tokenizer its snapshots share.

    Returns None if it is not here, but only on the engine that has the snapshot.
    """
    model = find_base_model(choice.base_model)
    if model is None or not model.is_ready(models_dir()):
        return None
    return model.folder(models_dir())
