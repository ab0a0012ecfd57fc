"""[torch] Chooses the next token: the likeliest, or one drawn by chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Replaces the logarithm of 0, which JSON cannot write.
MIN_LOGPROB = -9999.0


@dataclass(frozen=True)
class Chance:
    """How likely a token was to the model, as a natural logarithm.

    It is the chance before temperature, penalties and biases.
    """

    logprob: float
    # The likeliest tokens in its place with their logprobs, the likeliest first.
    top: tuple[tuple[int, float], ...] = ()


def likeliest(logits: Tensor) -> list[int]:
    """Returns the likeliest token of each row of [rows, vocabulary]."""
    tokens: list[int] = logits.argmax(-1).tolist()
    return tokens


def draw(
    logits: Tensor, temperature: float, top_p: float, generator: torch.Generator
) -> int:
    """Draws one token by the logits of one row, [vocabulary].

    It takes one uniform number from the generator, which is the same on every device.
    Rows are drawn one by one, so a row's token does not depend on the other rows.
    """
    chances = torch.softmax(logits.float() / temperature, -1)
    order = None
    if top_p < 1:
        chances, order = chances.sort(descending=True, stable=True)
    sums = chances.cumsum(-1, dtype=torch.float64)
    # The token with which the likeliest tokens reach top_p is the last that may be
    # drawn.
    num_allowed = len(sums) if order is None else int((sums < top_p).sum()) + 1
    total = sums[min(num_allowed, len(sums)) - 1]
    # The number has 24 bits, so the product stays below the total.
    uniform = torch.rand((), generator=generator).item()
    place = int(torch.searchsorted(sums, total * uniform, right=True))
    # The place is past the end only if the model has diverged, so that chances are NaN.
    place = min(place, len(sums) - 1)
    return place if order is None else int(order[place])


def changed(logits: Tensor, amounts: Mapping[int, float]) -> Tensor:
    """Returns one row's logits, [vocabulary], with amounts added to some tokens.

    The logits of the model are not changed.
    """
    places = logits.new_tensor(list(amounts), dtype=torch.int64)
    added = logits.new_tensor(list(amounts.values()), dtype=torch.float32)
    return logits.float().index_add(0, places, added)


def chances(logits: Tensor, tokens: Sequence[int], num_top: int) -> list[Chance]:
    """Returns the chance of one token for each row of [rows, vocabulary].

    Each has the `num_top` likeliest tokens of its row.
    """
    logprobs = torch.log_softmax(logits.float(), -1)
    logprobs = logprobs.nan_to_num(nan=MIN_LOGPROB, neginf=MIN_LOGPROB)
    places = torch.tensor(tokens, device=logits.device)[:, None]
    own: list[float] = logprobs.gather(1, places)[:, 0].tolist()
    if not num_top:
        return [Chance(logprob) for logprob in own]
    values, ids = logprobs.topk(min(num_top, logprobs.shape[-1]))
    tops = zip(ids.tolist(), values.tolist(), strict=True)
    return [
        Chance(logprob, tuple(zip(*top, strict=True)))
        for logprob, top in zip(own, tops, strict=True)
    ]
