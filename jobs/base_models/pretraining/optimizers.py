"""[torch] Muon for the matrices within layers, AdamW for everything else."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.95)
EPSILON = 1e-10
MUON_MOMENTUM = 0.95
# The coefficients of the polynomial that brings all singular values close to 1, and how
# often it is applied. Source: https://kellerjordan.github.io/posts/muon/
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
MIN_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """The optimiser Muon, which updates all matrices of one shape at once.

    torch has a Muon that takes one matrix after the other, and on a GPU a small model
    then mostly waits. Source: https://kellerjordan.github.io/posts/muon/
    """

    def __init__(self, matrices: list[nn.Parameter], *, lr: float, decay: float):
        super().__init__(matrices, {"lr": lr, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Updates all matrices; the closure that torch allows is not used."""
        for group in self.param_groups:
            matrices = sorted(group["params"], key=_shape)
            for shape, same in groupby(matrices, key=_shape):
                self._step(list(same), group["lr"], group["decay"], shape)

    def _step(
        self, matrices: list[Tensor], lr: float, decay: float, shape: tuple[int, ...]
    ) -> None:
        momenta = [self._momentum_of(matrix) for matrix in matrices]
        gradients = torch.stack([m.grad for m in matrices if m.grad is not None])
        momentum = torch.stack(momenta).lerp_(gradients, 1 - MUON_MOMENTUM)
        torch._foreach_copy_(momenta, momentum.unbind())
        # Nesterov's momentum looks one step ahead.
        update = orthogonal(gradients.lerp_(momentum, MUON_MOMENTUM))
        rows, columns = shape
        step = lr * max(1.0, rows / columns) ** 0.5
        torch._foreach_mul_(matrices, 1 - lr * decay)
        torch._foreach_add_(matrices, update.float().unbind(), alpha=-step)

    def _momentum_of(self, matrix: Tensor) -> Tensor:
        state: dict[str, Tensor] = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        return state["momentum_buffer"]


def orthogonal(matrices: Tensor) -> Tensor:
    """Returns the matrices with all singular values close to 1, in bfloat16.

    They are [matrices, rows, columns].
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    x = x.mT if is_tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=MIN_NORM)
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    return x.mT if is_tall else x


def _shape(matrix: Tensor) -> tuple[int, ...]:
    return tuple(matrix.shape)


def make_optimizers(
    model: nn.Module, *, matrix_rate: float, other_rate: float, decay: float
) -> dict[str, torch.optim.Optimizer]:
    """Returns the optimisers by name. The rates given are the full rates."""
    matrices, others = split_parameters(model)
    return {
        "muon": Muon(matrices, lr=matrix_rate, decay=decay),
        "adamw": torch.optim.AdamW(
            others, lr=other_rate, betas=BETAS, eps=EPSILON, weight_decay=0, fused=True
        ),
    }


def split_parameters(
    model: nn.Module,
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Returns the matrices within layers, and all other weights.

    The others are embeddings and norms.
    """
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and ".layers." in name]
    chosen = set(map(id, matrices))
    return matrices, [p for _, p in named if id(p) not in chosen]


def rate_share(step: int, total_steps: int, *, warmup: float, decline: float) -> float:
    """Returns the share of the full rate at a step, counted from 1.

    It rises in a line, stays at 1, and falls in a line towards 0. `warmup` and
    `decline` are the shares of all steps in which it rises and falls.
    """
    rise = step / max(1, warmup * total_steps)
    fall = (total_steps - step + 1) / max(1, decline * total_steps)
    return min(1.0, rise, fall)


def set_rates(optimizers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Sets all rates to a share of their full rates."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("full_lr", group["lr"])
            group["lr"] = group["full_lr"] * share
