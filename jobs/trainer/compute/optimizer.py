"""[torch] AdamW, and the learning rate of each step."""

import math
from typing import Literal

import torch
from torch import nn

BETAS = (0.9, 0.999)
EPSILON = 1e-8
# The rate falls to this share of its peak, except with a constant schedule.
FINAL_SHARE = 0.1


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """Returns AdamW with weight decay on matrices only.

    Decay of norms and biases does harm. Source: Loshchilov and Hutter 2019,
    https://arxiv.org/abs/1711.05101
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=EPSILON, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of all weights."""
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
    """Returns the learning rate of a step. Steps are counted from 1.

    It rises in a line to `peak` over `warmup`, a share of all steps, and then falls by
    the schedule to FINAL_SHARE of the peak.
    """
    warmup_steps = math.ceil(warmup * total_steps)
    if step <= warmup_steps:
        return peak * step / warmup_steps
    if schedule == "constant":
        return peak
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    fall = done if schedule == "linear" else (1 - math.cos(math.pi * done)) / 2
    return peak * (1 - (1 - FINAL_SHARE) * fall)
