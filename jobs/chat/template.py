"""A base model's own chat template: chats as the tokens that it was made for.

Control tokens are encoded as such where the template wrote them, and never where the
text of a message did. There `<|im_end|>` stays the characters that somebody typed.
"""

import asyncio
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async

from finetune_site.common.errors import UserError
from jobs.trainer.contract.folder_stamp import Stamp, folder_stamp
from jobs.trainer.text.encoding import TextEncoder, encode_text, kept_encoder

RENDERER = Path(__file__).with_name("renderer.py")
TEMPLATE_FILE, CONFIG_FILE = "chat_template.jinja", "tokenizer_config.json"
MAX_TEMPLATE_CHARACTERS = 100_000
RENDER_SECONDS = 15.0
# Each is a process that may use all that its limits allow; the rest wait.
MAX_RENDERERS = 2
VARIABLES = ("bos_token", "eos_token", "unk_token", "pad_token")
# A sample shows what the template writes after this answer.
ANSWER = "8f2c61"
SAMPLE = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}]
# Characters of private use have no meaning, so control tokens are broken up by one.
GUARDS = range(0xE000, 0xF900)

Message = dict[str, str]

renderers = asyncio.Semaphore(MAX_RENDERERS)


@dataclass(frozen=True)
class Prompt:
    """A chat up to where the assistant's next answer begins, as tokens."""

    tokens: list[int]
    # Each of these ends an answer.
    stop_tokens: list[int]


@dataclass(frozen=True)
class ChatTemplate:
    """The template of a base model, with the tokens that it may name."""

    text: str
    variables: dict[str, str]
    encoder: TextEncoder

    async def prompt(self, messages: Sequence[Message]) -> Prompt:
        """Returns the messages up to where the assistant's next answer begins.

        Raises UserError if the template refuses the messages or cannot be used.
        """
        # Long messages take a moment, in which the web process must go on.
        guard, guarded = await sync_to_async(self._guarded)(messages)
        asked = {
            "template": self.text,
            "variables": self.variables,
            "messages": guarded,
            "sample": SAMPLE,
        }
        async with renderers:
            answer = await rendered(asked)
        tokens = await sync_to_async(self.encode)(answer["prompt"], guard)
        return Prompt(tokens, self.stop_tokens(answer["sample"] or ""))

    def _guarded(self, messages: Sequence[Message]) -> tuple[str, list[Message]]:
        guard = self._guard_for(messages)
        return guard, [
            message | {"content": self.guarded(message["content"], guard)}
            for message in messages
        ]

    def guarded(self, text: str, guard: str) -> str:
        """Returns the text with its control tokens broken up by `guard`.

        The beginning of a control token at the end of the text is broken up too, since
        the template may write the next message right behind it.
        """
        broken = self._control.sub(lambda found: guard.join(found[0]), text)
        words = broken.rstrip()
        at = self._begins_at(words)
        return broken[:at] + guard.join([*words[at:], ""]) + broken[len(words) :]

    def encode(self, text: str, guard: str) -> list[int]:
        """Returns the tokens of what the template wrote, without the guards in it."""
        tokens: list[int] = []
        for number, piece in enumerate(self._control.split(text)):
            if number % 2:
                tokens.append(self.controls[piece])
                continue
            tokenizer = self.encoder.inner if number else self.encoder.tokenizer
            tokens += encode_text(tokenizer, piece.replace(guard, ""))
        begin_id = self.encoder.begin_id
        if begin_id is None or tokens[:1] == [begin_id]:
            return tokens
        return [begin_id, *tokens]

    def stop_tokens(self, sample: str) -> list[int]:
        """Returns the first control token after an answer, and the end of a text."""
        found = self._control.search(sample.rpartition(ANSWER)[2])
        names = [found[0] if found else "", self.variables.get("eos_token", "")]
        return sorted({self.controls[name] for name in names if name in self.controls})

    @cached_property
    def controls(self) -> dict[str, int]:
        """The control tokens by their texts.

        A token of a single character cannot be broken up, so it is taken for text.
        """
        added = self.encoder.tokenizer.get_added_tokens_decoder()
        return {
            token.content: number
            for number, token in added.items()
            if token.special and len(token.content) > 1
        }

    @cached_property
    def _control(self) -> re.Pattern[str]:
        longest_first = sorted(self.controls, key=len, reverse=True)
        # Without any control token the pattern finds nothing.
        return re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")

    def _begins_at(self, words: str) -> int:
        """Returns where the end of a text begins that may begin a control token."""
        longest = max(map(len, self.controls), default=0)
        for at in range(max(0, len(words) - longest), len(words)):
            if any(control.startswith(words[at:]) for control in self.controls):
                return at
        return len(words)

    def _guard_for(self, messages: Sequence[Message]) -> str:
        """Returns a character that neither the template nor a message holds."""
        known = set(self.text).union(*(message["content"] for message in messages))
        guard = next((chr(code) for code in GUARDS if chr(code) not in known), None)
        if guard is None:
            raise UserError(
                "The messages hold too many characters for private use.",
                field="messages",
            )
        return guard


async def rendered(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns what the renderer, a process of its own, answers.

    Raises UserError if the template cannot write the messages.
    """
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-I", str(RENDERER)],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    try:
        written, _ = await asyncio.wait_for(
            process.communicate(json.dumps(asked).encode()), RENDER_SECONDS
        )
        answer: dict[str, Any] = json.loads(written)
    except (TimeoutError, ValueError):
        answer = {"error": "it took too much time or memory"}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if "error" in answer:
        raise UserError(
            f"The model's own chat template cannot write these messages: "
            f"{answer['error'].rstrip('.')}.",
            field="messages",
        )
    return answer


def find_chat_template(folder: Path) -> ChatTemplate | None:
    """Returns the chat template in a model's folder, or None if it has none."""
    return _read(folder, folder_stamp(folder))


@lru_cache(maxsize=2)
def _read(folder: Path, stamp: Stamp) -> ChatTemplate | None:
    config = _read_config(folder)
    text = _template_text(folder, config)
    if not text or len(text) > MAX_TEMPLATE_CHARACTERS:
        return None
    variables = {name: _content(config.get(name)) for name in VARIABLES}
    known = {name: value for name, value in variables.items() if value}
    return ChatTemplate(text, known, kept_encoder(folder))


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _template_text(folder: Path, config: dict[str, Any]) -> str:
    """Returns the text of the template, or an empty one.

    It is in a file of its own or in the configuration. There it is the only one, or the
    one named `default`.
    """
    try:
        return (folder / TEMPLATE_FILE).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        found = config.get("chat_template")
    if isinstance(found, list):
        named = {one.get("name"): one for one in found if isinstance(one, dict)}
        found = named.get("default", {}).get("template")
    return found if isinstance(found, str) else ""


def _content(token: Any) -> str:
    """Returns the text of a token, which may be written as an object that holds it."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""
