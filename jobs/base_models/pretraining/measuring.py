"""[torch] Measures how well a model foresees text that it has never seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from jobs.base_models.pretraining.rows import encode_document
from jobs.base_models.pretraining.texts import Source

WINDOW_TOKENS = 256
LONG_WINDOW_TOKENS = 1024
# Positions in a long window, from 0: near its beginning, and far from it.
NEAR = slice(128, 256)
FAR = slice(256, 1024)
# The logits of so many tokens are in memory at once.
TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class LongContext:
    """The mean loss of tokens, in nats, by their place in a long window."""

    near: float
    far: float


def bits_per_byte(model: Any, tokenizer: Tokenizer, source: Source) -> float:
    """Returns the bits that a model needs for a byte, in windows of WINDOW_TOKENS.

    Models with different byte-level vocabularies can be compared by it. A vocabulary
    may have up to 65,536 tokens, and the end-of-text token must be the first.
    """
    tokens = _stream(tokenizer, source)
    losses = _window_losses(model, tokens, WINDOW_TOKENS)
    # These are all tokens that are foreseen: the very first one is not, and tokens that
    # fill no whole window are not.
    seen = tokens[1 : losses.size + 1]
    return float(losses.sum()) / math.log(2) / _num_bytes(tokenizer, seen)


def long_context(
    model: Any, tokenizer: Tokenizer, sources: Sequence[Source]
) -> LongContext:
    """Returns the mean losses near the beginning of long windows and far from it."""
    losses = np.concatenate(
        [
            _window_losses(model, _stream(tokenizer, source), LONG_WINDOW_TOKENS)
            for source in sources
        ]
    )
    return LongContext(float(losses[:, NEAR].mean()), float(losses[:, FAR].mean()))


def _stream(tokenizer: Tokenizer, source: Source) -> npt.NDArray[np.int64]:
    documents = [encode_document(tokenizer, text) for text in source.documents]
    return np.concatenate(documents).astype(np.int64)


@torch.inference_mode()
def _window_losses(
    model: Any, tokens: npt.NDArray[np.int64], length: int
) -> npt.NDArray[np.float32]:
    """Returns the loss of each token given those before it: [windows, length]."""
    num_windows = (len(tokens) - 1) // length
    starts = np.arange(num_windows)[:, None] * length
    windows = torch.from_numpy(tokens[starts + np.arange(length + 1)])
    losses = []
    for part in windows.split(TOKENS_AT_ONCE // length):
        part = part.to(model.device)
        logits = model(input_ids=part[:, :-1], use_cache=False).logits.float()
        nll = functional.cross_entropy(
            logits.flatten(0, 1), part[:, 1:].flatten(), reduction="none"
        )
        losses.append(nll.view(len(part), length).cpu())
    return torch.cat(losses).numpy()


def _num_bytes(tokenizer: Tokenizer, tokens: npt.NDArray[np.int64]) -> int:
    """Returns the number of bytes in tokens.

    A byte-level vocabulary writes each byte of a token as one character.
    """
    special = set(tokenizer.get_added_tokens_decoder())
    lengths = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    for text, number in tokenizer.get_vocab().items():
        lengths[number] = 0 if number in special else len(text)
    return int(lengths[tokens].sum())
