"""[torch] Dropout for models whose own code has none."""

from typing import Any

from torch import nn
from torch.nn import functional

from jobs.trainer.compute.model import decoder_layers


def add_dropout(model: Any, share: float) -> None:
    """Of what embeddings, attention and feed-forward parts give, while in training."""
    if not share:
        return

    def drop(module: nn.Module, _: Any, output: Any) -> Any:
        # Attention gives its probabilities, too, if anybody asks for them.
        if isinstance(output, tuple):
            return drop(module, _, output[0]), *output[1:]
        return functional.dropout(output, share, module.training)

    parts = [model.get_input_embeddings()]
    for layer in decoder_layers(model):
        parts += [layer.self_attn, layer.mlp]
    for part in parts:
        part.register_forward_hook(drop)
