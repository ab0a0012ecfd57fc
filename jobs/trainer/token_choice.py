"""[torch] Which token comes next: the likeliest, or one drawn by chance."""

import torch
from torch import Tensor


def likeliest(logits: Tensor) -> list[int]:
    """For each row of (rows, vocabulary)."""
    tokens: list[int] = logits.argmax(-1).tolist()
    return tokens


def draw(
    logits: Tensor, temperature: float, top_p: float, generator: torch.Generator
) -> int:
    """One token of one row, by one uniform number, which is the same on every device.

    Rows are drawn one by one: a row's token must not depend on its neighbours.
    """
    chances = torch.softmax(logits.float() / temperature, -1)
    order = None
    if top_p < 1:
        chances, order = chances.sort(descending=True, stable=True)
    sums = chances.cumsum(-1, dtype=torch.float64)
    # Of the likeliest, the one that reaches top_p is the last that may be drawn.
    num_allowed = len(sums) if order is None else int((sums < top_p).sum()) + 1
    total = sums[min(num_allowed, len(sums)) - 1]
    # Of 24 bits, so that the product stays below the total.
    uniform = torch.rand((), generator=generator).item()
    place = int(torch.searchsorted(sums, total * uniform, right=True))
    # Only a model that has diverged (NaN) leads past the end.
    place = min(place, len(sums) - 1)
    return place if order is None else int(order[place])
