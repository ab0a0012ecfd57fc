"""[torch] The short way through a model: no attention mask, and logits in parts.

It replaces parts of the model's own code. So a model takes it only if a trial has shown
the same results as by the long way, which is the model's own code alone. In this way
the numbers of every architecture are those of its own code, except for rounding.
"""

import logging
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from jobs.trainer.compute import attention
from jobs.trainer.compute.batches import MicroBatch, find_learned

logger = logging.getLogger(__name__)

# The pieces of the trial: (first token, number of tokens). One has its own bucket.
TRIAL_PIECES = ((0, 5), (5, 19), (24, 3))
TRIAL_TOKENS = 27
# The largest allowed difference, as a share of the largest logit. It is more than
# rounding, and far less than any real difference.
TOLERANCE = 1e-3
# transformers passes on a mask of four dimensions as it is, and then makes no own mask.
NO_MASK = (0, 0, 0, 0)
DROPOUTS = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")
# Other kinds of layers may see fewer earlier tokens, which a short trial cannot show.
FULL_ATTENTION = {"full_attention"}


def allow_shortcuts(model: nn.Module) -> bool:
    """Lets a model take the short way from now on, if a trial shows the same logits.

    Returns whether it does. The model must be in float32.
    """
    inner = _inner(model)
    if not _has_plain_parts(inner):
        return False
    used = inner.config._attn_implementation
    batch = trial_batch(inner)
    expected = _long_way(inner, batch)
    try:
        inner.set_attn_implementation(attention.NAME)
        found = _short_way(inner, batch)
    except Exception as error:  # whatever the model's code does with it
        logger.info("No shortcuts for this model: %s", error)
        found = None
    if found is not None and _is_close(found, expected):
        return True
    inner.set_attn_implementation(used)
    return False


@torch.no_grad()
def keeps_apart(model: nn.Module) -> bool:
    """Returns whether the model's own code keeps the pieces of a packed row apart.

    Each piece must give the same logits in the row as alone. The model must be in
    float32.
    """
    inner = _inner(model)
    batch = trial_batch(inner)
    packed = _long_way(inner, batch)[0]
    inner.eval()
    alone = [
        inner(input_ids=batch.inputs[:, start : start + length]).logits[0]
        for start, length in TRIAL_PIECES
    ]
    inner.train()
    return _is_close(packed, torch.cat(alone))


def takes_shortcuts(model: nn.Module) -> bool:
    """Returns whether the model takes the short way."""
    return bool(_inner(model).config._attn_implementation == attention.NAME)


def last_hidden(model: nn.Module, batch: MicroBatch) -> Tensor:
    """Returns the input of the output layer: [rows, tokens, width]."""
    hidden: Tensor = (
        _inner(model)
        .get_decoder()(
            input_ids=batch.inputs,
            position_ids=batch.positions,
            attention_mask=torch.empty(NO_MASK, device=batch.inputs.device),
            pieces=batch.pieces,
            use_cache=False,
        )
        .last_hidden_state
    )
    return hidden


def output_weight(model: nn.Module) -> Tensor:
    """Returns the weights of the output layer: [vocabulary, width]."""
    return cast(Tensor, _inner(model).get_output_embeddings().weight)


def _inner(model: Any) -> Any:
    """Returns the model without PEFT's wrapper. The adapter itself is in the layers."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _has_plain_parts(inner: Any) -> bool:
    head = inner.get_output_embeddings()
    # An adapter may sit on the output layer too.
    is_plain = type(head) is nn.Linear and head.bias is None
    config = inner.config.get_text_config()
    drops = any(getattr(config, name, 0.0) for name in DROPOUTS)
    is_full = set(getattr(config, "layer_types", None) or ()) <= FULL_ATTENTION
    is_usual = inner.config._attn_implementation == "sdpa"
    return is_plain and is_full and is_usual and not drops


def trial_batch(model: Any) -> MicroBatch:
    """Returns a row of three pieces, whose tokens come from the whole vocabulary."""
    inner = _inner(model)
    starts, lengths = np.array(TRIAL_PIECES).T
    vocabulary = len(inner.get_output_embeddings().weight)
    ids = torch.arange(TRIAL_TOKENS) * 7919 % vocabulary
    weights = torch.ones(1, TRIAL_TOKENS)
    positions = np.concatenate([np.arange(length) for length in lengths])
    return MicroBatch(
        ids[None],
        torch.from_numpy(positions)[None],
        ids[None],
        weights,
        find_learned(weights),
        TRIAL_TOKENS,
        attention.sort_pieces(starts, lengths),
    ).to(next(inner.parameters()).device)


@torch.no_grad()
def _long_way(inner: Any, batch: MicroBatch) -> Tensor:
    inner.eval()
    logits: Tensor = inner(
        input_ids=batch.inputs, position_ids=batch.positions, use_cache=False
    ).logits
    inner.train()
    return logits


@torch.no_grad()
def _short_way(inner: Any, batch: MicroBatch) -> Tensor:
    inner.eval()
    try:
        return last_hidden(inner, batch) @ output_weight(inner).T
    finally:
        inner.train()


def _is_close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())
