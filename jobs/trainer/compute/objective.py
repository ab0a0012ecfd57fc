"""[torch] What is minimised: the weighted loss, the same however a step is divided.

    train loss of a step = sum(weight * nll) / N

N counts the tokens with a weight above 0 in the whole step. So a weight of 0.1 means a
tenth even when a whole step has it, and neither micro-batches nor more processes change
the result. The learned loss is the same with those weights taken as 1.
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
    """Sums over tokens with a weight above 0. Add them up, divide once."""

    # sum(weight * nll), with its gradient.
    weighted: torch.Tensor
    # sum(nll)
    plain: torch.Tensor
    # Tokens that were the model's first choice.
    correct: torch.Tensor

    def detach(self) -> "Sums":
        return Sums(self.weighted.detach(), self.plain, self.correct)

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.weighted + other.weighted,
            self.plain + other.plain,
            self.correct + other.correct,
        )


@dataclass(frozen=True)
class Losses:
    """Means over N tokens; all 0 when nothing was learned from."""

    loss: float
    learned_loss: float
    accuracy: float


def count_learned(batches: list[MicroBatch]) -> int:
    """N: the tokens with a weight above 0."""
    return sum(len(batch.learned.tokens) for batch in batches)


def sums_of(model: nn.Module, batch: MicroBatch) -> Sums | None:
    """Run the model over a micro-batch; None when nothing in it is learned.

    Logits are made only where something is learned, and the loss is taken in float32
    whatever the model's precision.
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
    """The long way: made for the columns in which some row learns."""
    logits: torch.Tensor = model(
        input_ids=batch.inputs,
        position_ids=batch.positions,
        logits_to_keep=batch.learned.columns,
        use_cache=False,
    ).logits
    return logits.flatten(0, 1).index_select(0, batch.learned.in_columns).float()


def losses_of(sums: Sums | None, num_learned: int) -> Losses:
    if sums is None or not num_learned:
        return Losses(0.0, 0.0, 0.0)
    return Losses(
        float(sums.weighted) / num_learned,
        float(sums.plain) / num_learned,
        float(sums.correct) / num_learned,
    )
