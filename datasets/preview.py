"""The tokens the trainer will use for one example, by the trainer's own function."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from datasets.selectors import clip
from jobs.base_models.catalogue import CATALOGUE
from jobs.selectors import models_dir
from jobs.trainer.encoding import encode_example, end_of_text_id, load_tokenizer
from jobs.trainer.examples import Segment

MODEL = "tiny"
# Enough to see what happens; the rest of a long example is counted by characters.
MAX_CHARACTERS = 4000


@dataclass(frozen=True)
class Token:
    text: str
    id: int
    weight: float
    # Which segment it comes from, counted from 0, and whether it begins a later one.
    segment: int
    cut: bool


@dataclass(frozen=True)
class Preview:
    model: str
    tokens: list[Token]
    characters_left_out: int


def preview_of(segments: list[Segment]) -> Preview:
    folder = CATALOGUE[MODEL].folder(models_dir())
    tokenizer, end_id = _load(folder)
    shown, left_out = clip(segments, MAX_CHARACTERS)
    encoded = encode_example(tokenizer, shown, end_id)
    tokens = [
        Token(
            "end" if at == len(encoded.ids) - 1 else _text(tokenizer, number),
            number,
            encoded.weights[at],
            encoded.segments[at],
            at > 0 and encoded.segments[at] != encoded.segments[at - 1],
        )
        for at, number in enumerate(encoded.ids)
    ]
    return Preview(MODEL, tokens[:-1] if left_out else tokens, left_out)


@lru_cache(maxsize=4)
def _load(folder: Path) -> tuple[Tokenizer, int]:
    return load_tokenizer(folder), end_of_text_id(folder)


@lru_cache(maxsize=1)
def _byte_of() -> dict[str, int]:
    """Byte-level BPE writes each byte as one printable character; this is the way back.

    Source: bytes_to_unicode of openai/gpt-2, encoder.py.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + at): byte for at, byte in enumerate(others)}


def _text(tokenizer: Tokenizer, number: int) -> str:
    """How a token reads: white space made visible, a part of a character as bytes."""
    piece, table = tokenizer.id_to_token(number) or "", _byte_of()
    if not all(character in table for character in piece):
        return piece
    data = bytes(table[character] for character in piece)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return " ".join(f"{byte:02x}" for byte in data)
    return text.replace(" ", "·").replace("\n", "⏎").replace("\t", "→")
