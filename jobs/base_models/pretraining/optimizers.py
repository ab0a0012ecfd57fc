"""[torch] Muon for the matrices within layers, AdamW for everything else."""

from collections.abc import Iterable

import torch
from torch import nn

BETAS = (0.9, 0.95)
EPSILON = 1e-10
MUON_MOMENTUM = 0.95


def make_optimizers(
    model: nn.Module, *, matrix_rate: float, other_rate: float, decay: float
) -> dict[str, torch.optim.Optimizer]:
    """By name. Rates are those at full height.

    Muon: https://kellerjordan.github.io/posts/muon/.
    """
    matrices, others = split_parameters(model)
    return {
        "muon": torch.optim.Muon(
            matrices, lr=matrix_rate, momentum=MUON_MOMENTUM, weight_decay=decay
        ),
        "adamw": torch.optim.AdamW(
            others, lr=other_rate, betas=BETAS, eps=EPSILON, weight_decay=0, fused=True
        ),
    }


def split_parameters(
    model: nn.Module,
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices within layers; embeddings and norms, which are no maps of a layer."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and ".layers." in name]
    chosen = set(map(id, matrices))
    return matrices, [p for _, p in named if id(p) not in chosen]


def rate_share(step: int, total_steps: int, *, warmup: float, decline: float) -> float:
    """Of the full rate at a step: it rises, stays, and falls in a line to nothing.

    `warmup` and `decline` are shares of all steps.
    """
    rise = step / max(1, warmup * total_steps)
    fall = (total_steps - step + 1) / max(1, decline * total_steps)
    return min(1.0, rise, fall)


def set_rates(optimizers: Iterable[torch.optim.Optimizer], share: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("full_lr", group["lr"])
            group["lr"] = group["full_lr"] * share
