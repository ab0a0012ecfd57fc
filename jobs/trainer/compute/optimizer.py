"""[torch] AdamW and the rate of each step."""

import math
from typing import Literal

import torch
from torch import nn

BETAS = (0.9, 0.999)
EPSILON = 1e-8
# The rate falls to this share of its height, except when it is constant.
FINAL_SHARE = 0.1


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with decay on matrices only: shrinking norms and biases does harm.

    Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=EPSILON, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def rate_at(
    step: int,
    total_steps: int,
    *,
    peak: float,
    warmup: float,
    schedule: Literal["cosine", "linear", "constant"],
) -> float:
    """The rate of a step, counted from 1; `warmup` is a share of all steps."""
    warmup_steps = math.ceil(warmup * total_steps)
    if step <= warmup_steps:
        return peak * step / warmup_steps
    if schedule == "constant":
        return peak
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    fall = done if schedule == "linear" else (1 - math.cos(math.pi * done)) / 2
    return peak * (1 - (1 - FINAL_SHARE) * fall)
