"""What a chat becomes for the model that shall answer it."""

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
    prompt: str | list[int]
    stop: Sequence[str] = ()
    stop_tokens: Sequence[int] = field(default=())
    # The answer's first character belongs to the template.
    begins_with_space: bool = False


async def chat_question(
    choice: ModelChoice, messages: Sequence[ChatMessage]
) -> ChatQuestion:
    """By the base model's own template; by the plain one where it has none, and where
    training was on chats, which are written by that one. UserError.
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
                # The newer name of the same thing, which templates do not know.
                "role": SYSTEM if message.role == DEVELOPER else message.role,
                "content": message.text,
            }
            for message in messages
        ]
    )
    return ChatQuestion(prompt.tokens, stop_tokens=prompt.stop_tokens)


def _plain(folder: Path | None, messages: Sequence[ChatMessage]) -> ChatQuestion:
    """As tokens, segment by segment as in training, if the tokenizer is here."""
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
    """Of the base model, whose tokenizer and template its snapshots share. None: it is
    not here, only on the engine that has the snapshot.
    """
    model = find_base_model(choice.base_model)
    if model is None or not model.is_ready(models_dir()):
        return None
    return model.folder(models_dir())
