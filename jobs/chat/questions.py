"""Turns a chat into what the model that answers it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from asgiref.sync import sync_to_async
from tokenizers import Tokenizer

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
from jobs.trainer.text.encoding import encode_text, load_tokenizer

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
    """Returns what the model is asked, written by the base model's own template.

    The plain template is used where the model has none. It is also used where training
    was on chats, since these are written by it. Raises UserError if the template cannot
    write the messages.
    """
    folder = await sync_to_async(_model_folder)(choice)
    snapshot = choice.snapshot
    trained_plain = snapshot and snapshot.job.dataset_version.from_chats
    template = None
    if folder and not trained_plain:
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
        tokenizer = _tokenizer(folder)
        *read, _ = chat_segments([*messages, ChatMessage(ASSISTANT, "")])
        prompt = [token for text, _ in read for token in encode_text(tokenizer, text)]
    return ChatQuestion(prompt, stop=CHAT_STOPS, begins_with_space=True)


@lru_cache(maxsize=2)
def _tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def _model_folder(choice: ModelChoice) -> Path | None:
    """Returns the folder of the base model, whose tokenizer its snapshots share.

    Returns None if it is not here, but only on the engine that has the snapshot.
    """
    model = find_base_model(choice.base_model)
    if model is None or not model.is_ready(models_dir()):
        return None
    return model.folder(models_dir())
