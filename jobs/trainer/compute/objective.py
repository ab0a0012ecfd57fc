"""[torch] The weighted loss that is minimised, the same however a step is divided.

    train loss of a step = sum(weight * nll) / N

N is the number of tokens with a weight above 0 in the whole step; nll is the negative
log likelihood of a token, in nats. So a weight of 0.1 means a tenth even when all
tokens of a step have it, and neither micro-batches nor more processes change the
result. The learned loss is the same with every weight above 0 taken as 1.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from jobs.trainer.compute.batches import MicroBatch
from jobs.trainer.compute.output_loss import weighted_loss
from jobs.trainer.compute.shortcuts import (
    last_hidden,
    output_weight,
    takes_shortcuts,
)


@dataclass(frozen=True)
class Sums:
    """Sums over tokens with a weight above 0. Add them all up, then divide once."""

    # sum(weight * nll), with its gradient.
    weighted: torch.Tensor
    # sum(nll), without gradient.
    plain: torch.Tensor
    # The number of tokens that were the model's first choice.
    correct: torch.Tensor

    def detach(self) -> "Sums":
        """Returns the same sums without gradient."""
        return Sums(self.weighted.detach(), self.plain, self.correct)

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.weighted + other.weighted,
            self.plain + other.plain,
            self.correct + other.correct,
        )


@dataclass(frozen=True)
class Losses:
    """Means over N tokens, in nats; all are 0 when nothing was learned."""

    loss: float
    learned_loss: float
    accuracy: float


def count_learned(batches: list[MicroBatch]) -> int:
    """Returns N: the number of tokens with a weight above 0."""
    return sum(len(batch.learned.tokens) for batch in batches)


def sums_of(model: nn.Module, batch: MicroBatch) -> Sums | None:
    """Runs the model over a micro-batch; returns None when nothing in it is learned.

    Logits are made only where something is learned. The loss is computed in float32,
    whatever the precision of the model.
    """
    learned = batch.learned.tokens
    if not len(learned):
        return None
    targets = batch.targets.flatten().index_select(0, learned)
    weights = batch.weights.flatten().index_select(0, learned)
    if takes_shortcuts(model):
        hidden = last_hidden(model, batch).flatten(0, 1).index_select(0, learned)
        return Sums(*weighted_loss(hidden, output_weight(model), targets, weights))
    logits = _learned_logits(model, batch)
    nll = functional.cross_entropy(logits, targets, reduction="none")
    with torch.no_grad():
        correct = (logits.argmax(dim=-1) == targets).sum()
    return Sums((weights * nll).sum(), nll.detach().sum(), correct)


def _learned_logits(model: nn.Module, batch: MicroBatch) -> torch.Tensor:
    """Returns the logits of the learned tokens by the model's own code.

    The model makes them for all rows of every column in which a row learns.
    """
    logits: torch.Tensor = model(
        input_ids=batch.inputs,
        position_ids=batch.positions,
        logits_to_keep=batch.learned.columns,
        use_cache=False,
    ).logits
    return logits.flatten(0, 1).index_select(0, batch.learned.in_columns).float()


def losses_of(sums: Sums | None, num_learned: int) -> Losses:
    """Returns the means over N = `num_learned` tokens."""
    if sums is None or not num_learned:
        return Losses(0.0, 0.0, 0.0)
    return Losses(
        float(sums.weighted) / num_learned,
        float(sums.plain) / num_learned,
        float(sums.correct) / num_learned,
    )
