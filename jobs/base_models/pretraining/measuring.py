"""[torch] How well a model foresees text it has never seen."""

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
# Positions of a long window, from 0: near the beginning, and far from it.
NEAR = slice(128, 256)
FAR = slice(256, 1024)
# Of their logits, what is in memory at once.
TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class LongContext:
    """Mean loss a token, in nats, by where in a long window it stands."""

    near: float
    far: float


def bits_per_byte(model: Any, tokenizer: Tokenizer, source: Source) -> float:
    """In windows of WINDOW_TOKENS. Models compare whatever their vocabularies of bytes,
    of up to 65,536 tokens with the end-of-text token first: a byte is a byte.
    """
    tokens = _stream(tokenizer, source)
    losses = _window_losses(model, tokens, WINDOW_TOKENS)
    # All tokens that are foreseen: not the very first, nor the rest of a window.
    seen = tokens[1 : losses.size + 1]
    return float(losses.sum()) / math.log(2) / _num_bytes(tokenizer, seen)


def long_context(
    model: Any, tokenizer: Tokenizer, sources: Sequence[Source]
) -> LongContext:
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
    """(windows, length): each token given those before it in its window."""
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
    """Each token of a byte-level vocabulary is written with one character a byte."""
    special = set(tokenizer.get_added_tokens_decoder())
    lengths = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    for text, number in tokenizer.get_vocab().items():
        lengths[number] = 0 if number in special else len(text)
    return int(lengths[tokens].sum())
