"""[torch] Adds dropout to models whose own code has none."""

from typing import Any

from torch import nn
from torch.nn import functional

from jobs.trainer.compute.model import decoder_layers


def add_dropout(model: Any, share: float) -> None:
    """Drops a share of the outputs of embeddings, attention and feed-forward parts.

    This happens only while the model is in training mode.
    """
    if not share:
        return

    def drop(module: nn.Module, _: Any, output: Any) -> Any:
        # Attention returns a tuple, whose first part is its output.
        if isinstance(output, tuple):
            return drop(module, _, output[0]), *output[1:]
        return functional.dropout(output, share, module.training)

    parts = [model.get_input_embeddings()]
    for layer in decoder_layers(model):
        parts += [layer.self_attn, layer.mlp]
    for part in parts:
        part.register_forward_hook(drop)
