"""Shows one example as the tokens that the trainer will use, by its own function."""

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from tokenizers import Tokenizer

from datasets.pages.shown_examples import clip
from jobs.trainer.contract.model_folders import model_folder
from jobs.trainer.text.byte_alphabet import lettered_bytes
from jobs.trainer.text.encoding import (
    Encoded,
    TextEncoder,
    encode_example,
    kept_encoder,
)
from jobs.trainer.text.examples import Segment

MODEL = "tiny"
# This is enough to see what happens; of the rest only characters are counted.
MAX_PREVIEW_CHARACTERS = 4000


@dataclass(frozen=True)
class Token:
    """A token with its loss weight."""

    text: str
    id: int
    weight: float
    # Which segment the token comes from, counted from 0, and whether it begins a later
    # one than the token before.
    segment: int
    cut: bool


@dataclass(frozen=True)
class Preview:
    """The tokens of the beginning of an example, by the tokenizer of `model`."""

    model: str
    tokens: list[Token]
    characters_left_out: int


def preview_of(segments: list[Segment]) -> Preview:
    """Returns the tokens of an example and how many characters are left out."""
    folder = model_folder(MODEL, Path(settings.DATA_DIR) / "models")
    encoder = kept_encoder(folder)
    shown, left_out = clip(segments, MAX_PREVIEW_CHARACTERS)
    encoded = encode_example(encoder, shown)
    tokens = [
        Token(
            _name(encoder, encoded, at),
            number,
            encoded.weights[at],
            encoded.segments[at],
            at > 0 and encoded.segments[at] != encoded.segments[at - 1],
        )
        for at, number in enumerate(encoded.ids)
    ]
    return Preview(MODEL, tokens[:-1] if left_out else tokens, left_out)


def _name(encoder: TextEncoder, encoded: Encoded, at: int) -> str:
    if at == len(encoded.ids) - 1:
        return "end"
    if at == 0 and encoded.has_context:
        return "begin"
    return _text(encoder.tokenizer, encoded.ids[at])


def _text(tokenizer: Tokenizer, number: int) -> str:
    """Returns how a token reads.

    White space is made visible, and a part of a character is written as bytes.
    """
    piece = tokenizer.id_to_token(number) or ""
    data = lettered_bytes(piece)
    if data is None:
        return piece
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return " ".join(f"{byte:02x}" for byte in data)
    return text.replace(" ", "·").replace("\n", "⏎").replace("\t", "→")
