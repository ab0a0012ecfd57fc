"""[contract] Turns text into tokens, in one way for trainer, preview and serving."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tokenizers import Tokenizer

from jobs.trainer.text.examples import Segment


@dataclass(frozen=True)
class Encoded:
    """One example as tokens, in three lists of the same length.

    The last token is the end-of-text token, with the loss weight of the last segment.
    """

    ids: list[int]
    weights: list[float]
    # For each token the number of its segment, counted from 0.
    segments: list[int]


class TokenizerError(ValueError):
    """Says that a model folder's files do not tell how text becomes tokens."""


def load_tokenizer(model_folder: Path | str) -> Tokenizer:
    """Returns a model folder's tokenizer, which finds no control tokens in text.

    If a person types `<|endoftext|>`, it is encoded as those characters and not as the
    control token. Texts are never cut or padded. Raises TokenizerError.
    """
    path = Path(model_folder) / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library has nothing narrower
        raise TokenizerError(f"The tokenizer {path} cannot be read: {error}") from None
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokenizer_sha256(model_folder: Path | str) -> str:
    """Returns the SHA-256 of the tokenizer's file in hexadecimal digits."""
    return sha256((Path(model_folder) / "tokenizer.json").read_bytes()).hexdigest()


def end_of_text_id(model_folder: Path | str) -> int:
    """Returns the token that ends an example: the model's own end-of-sequence token.

    Raises TokenizerError if the model's files name none.
    """
    for name in ("generation_config.json", "config.json"):
        path = Path(model_folder) / name
        if not path.is_file():
            continue
        end = json.loads(path.read_bytes()).get("eos_token_id")
        if isinstance(end, list):
            end = end[0] if end else None
        if end is not None:
            return int(end)
    raise TokenizerError(f"{model_folder} names no end-of-text token (eos_token_id)")


def encode_examples(
    tokenizer: Tokenizer, examples: Sequence[Sequence[Segment]], end_id: int
) -> list[Encoded]:
    """Returns the examples as tokens, each with the end token behind it.

    Each segment is encoded alone, so borders of segments are always borders of tokens.
    """
    texts = [text for segments in examples for text, _ in segments]
    tokens = iter(tokenizer.encode_batch(texts, add_special_tokens=False))
    return [
        _join([(next(tokens).ids, weight) for _, weight in segments], end_id)
        for segments in examples
    ]


def encode_example(
    tokenizer: Tokenizer, segments: Sequence[Segment], end_id: int
) -> Encoded:
    """Returns one example as tokens, as `encode_examples` does."""
    return encode_examples(tokenizer, [segments], end_id)[0]


def _join(segments: list[tuple[list[int], float]], end_id: int) -> Encoded:
    ids: list[int] = []
    weights: list[float] = []
    origins: list[int] = []
    for number, (tokens, weight) in enumerate(segments):
        ids += tokens
        weights += [weight] * len(tokens)
        origins += [number] * len(tokens)
    last = len(segments) - 1
    return Encoded(ids + [end_id], weights + [segments[last][1]], origins + [last])


def encode_prompt(tokenizer: Tokenizer, text: str, end_id: int) -> list[int]:
    """Returns the tokens of a prompt.

    The empty prompt is the end token, because texts begin after it.
    """
    return encode_text(tokenizer, text) or [end_id]


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Returns the tokens of a text, without an end token."""
    # It is a batch of one, because `encode` makes all other threads wait until its end.
    [encoded] = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    return list(encoded.ids)
