"""[torch] Computes the loss from the last hidden states, some tokens at a time.

The logits of a micro-batch are by far its largest tensor: for 2,048 tokens and a
vocabulary of 150,000 they take 1.2 GB, and their gradient takes as much again. Here
only a part of them exists at a time, and its gradient is computed before the next part.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from jobs.trainer.rows.memory import LOGITS_AT_ONCE


def weighted_loss(
    hidden: Tensor, output: Tensor, targets: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns sum(weight * nll), sum(nll), and how many targets were the first choice.

    `hidden` is [tokens, width] and `output`, the weights of the output layer, is
    [vocabulary, width]; `targets` and `weights` are [tokens]. The product has the
    precision of autocast, and the loss is computed in float32 at least. Only the first
    sum has a gradient.
    """
    dtype = hidden.dtype
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
    sums: tuple[Tensor, Tensor, Tensor] = _WeightedLoss.apply(
        hidden.to(dtype), output, targets, weights, torch.is_grad_enabled()
    )
    return sums


class _WeightedLoss(torch.autograd.Function):
    """Computes the gradients in the forward pass, while the logits exist."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        output: Tensor,
        targets: Tensor,
        weights: Tensor,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        matrix = output.to(hidden.dtype)
        precise = torch.promote_types(hidden.dtype, torch.float32)
        parts = _parts(len(matrix), hidden, targets, weights.to(precise))
        sums = [hidden.new_zeros((), dtype=precise) for _ in range(2)]
        correct = torch.zeros((), dtype=torch.int64, device=hidden.device)
        d_hidden, d_output = [], None
        for h, target, weight in parts:
            logits = h @ matrix.T
            correct += _num_first_choices(logits, target)
            log_p = torch.log_softmax(logits, 1, dtype=precise)
            nll = -log_p.gather(1, target)
            sums[0] += (weight * nll).sum()
            sums[1] += nll.sum()
            if not with_gradient:
                continue
            # d nll / d logits = p - (1 at the target). The weight is multiplied into
            # the smaller tensors.
            d_logits = log_p.exp_()
            d_logits.scatter_add_(1, target, d_logits.new_full((), -1).expand_as(nll))
            d_logits = d_logits.to(h.dtype)
            small = weight.to(h.dtype)
            d_hidden.append((d_logits @ matrix) * small)
            # An output layer that is not trained needs no gradient.
            if ctx.needs_input_grad[1]:
                d_matrix = (d_logits.T @ (h * small)).to(precise)
                d_output = d_matrix if d_output is None else d_output.add_(d_matrix)
        if with_gradient:
            ctx.save_for_backward(torch.cat(d_hidden), d_output)
            ctx.output_dtype = output.dtype
        ctx.mark_non_differentiable(sums[1], correct)
        return sums[0], sums[1], correct

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_output = ctx.saved_tensors
        if d_output is not None:
            # It may be changed in place, because only this function uses it.
            d_output = d_output.mul_(gradient).to(ctx.output_dtype)
        return d_hidden * gradient.to(d_hidden.dtype), d_output, None, None, None


def _num_first_choices(logits: Tensor, target: Tensor) -> Tensor:
    """Returns how many targets `argmax` chooses.

    On a CPU `argmax` is slow. So unless most targets are right, it looks only at tokens
    for which no logit is larger than the target's. An equal logit may still come first.
    """
    if logits.device.type == "cpu":
        likely = (logits.gather(1, target) == logits.amax(1, keepdim=True)).flatten()
        if 2 * int(likely.sum()) < len(likely):
            logits, target = logits[likely], target[likely]
    return (logits.argmax(1, keepdim=True) == target).sum()


def _parts(
    vocabulary: int, hidden: Tensor, targets: Tensor, weights: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    size = max(1, LOGITS_AT_ONCE // vocabulary)
    return zip(
        hidden.split(size),
        targets[:, None].split(size),
        weights[:, None].split(size),
        strict=True,
    )
