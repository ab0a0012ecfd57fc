"""[torch] One optimiser step: the gradients of all its rows, then the update."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from jobs.trainer.compute.batches import MicroBatch
from jobs.trainer.compute.model import any_broken, trained_parameters
from jobs.trainer.compute.objective import Losses, Sums, losses_of, sums_of
from jobs.trainer.compute.optimizer import make_optimizer, rate_at, set_rate
from jobs.trainer.contract.runfolder import Numerics
from jobs.trainer.contract.spec import Spec
from jobs.trainer.feed import StepRows
from jobs.trainer.numerics import autocast
from jobs.trainer.processes.ranks import Ranks
from jobs.trainer.processes.sharding import Learner, own_part, whole


@dataclass(frozen=True)
class Gradients:
    """The results of a step before its update."""

    losses: Losses
    # The norm of all gradients together, before clipping.
    norm: float
    # N of the whole step: its tokens with a weight above 0. If 0, no update is made.
    num_learned: int


class Learning:
    """Computes the gradients of each step and updates the model with them."""

    def __init__(
        self,
        spec: Spec,
        numerics: Numerics,
        ranks: Ranks,
        learner: Learner,
        total_steps: int,
    ) -> None:
        self.spec = spec
        self.numerics = numerics
        self.ranks = ranks
        self.learner = learner
        self.model = learner.model
        self.total_steps = total_steps
        self.optimizer = make_optimizer(self.model, spec.weight_decay)

    def gradients(self, step: int, rows: StepRows) -> Gradients:
        """Computes the gradients of a step over all processes, and clips them.

        The gradients stay in the parameters; returned are the losses and the norm.
        """
        self._seed_the_others(step)
        counts = self.ranks.sum(torch.tensor([rows.num_learned]))
        learned = int(counts[0])
        self.optimizer.zero_grad(set_to_none=True)
        losses = losses_of(self.add_up(rows.batches, learned), learned)
        return Gradients(
            losses,
            clip_gradients(self.model, self.spec.clip) if learned else 0.0,
            learned,
        )

    def update(self, step: int, gradients: Gradients) -> float:
        """Changes the weights; returns the learning rate of the step."""
        rate = self._rate_of(step)
        if gradients.num_learned:
            set_rate(self.optimizer, rate)
            self.optimizer.step()
        return rate

    def has_broken_weights(self) -> bool:
        """Returns whether any process has a trained weight that is not finite."""
        own = map(own_part, trained_parameters(self.model).values())
        broken = self.ranks.sum(torch.tensor([int(any_broken(own))]))
        return bool(broken[0])

    def add_up(self, batches: list[MicroBatch], learned: int) -> Sums | None:
        """Adds up the gradients of a step's micro-batches.

        `learned` is N of the whole step. Returns the sums over all processes, or None
        when no process has learned anything.
        """
        total = None
        for batch in batches:
            with autocast(self.numerics, self.ranks.device):
                batch = batch.to(self.ranks.device)
                sums = self.learner(partial(sums_of, batch=batch))
            if sums is None:
                continue
            if not batch.num_tokens:
                (0 * sums.weighted).backward()
                continue
            # Dividing by N of the whole step lets the gradients simply add up.
            (sums.weighted / learned).backward()
            total = sums.detach() if total is None else total + sums.detach()
        if not self.numerics.sharded:
            self.ranks.sum_gradients(trained_parameters(self.model).values())
        return self.ranks.sum_losses(total)

    def _seed_the_others(self, step: int) -> None:
        """Seeds dropout in all processes but the first.

        Each process drops other values. The random state of the first process is saved
        in the checkpoint.
        """
        if not self.ranks.is_first:
            torch.manual_seed(self.spec.seed + (step << 32) + (self.ranks.rank << 20))

    def _rate_of(self, step: int) -> float:
        return rate_at(
            step,
            self.total_steps,
            peak=self.spec.learning_rate * self.numerics.rate_share,
            warmup=self.spec.warmup,
            schedule=self.spec.schedule,
        )


def clip_gradients(model: nn.Module, max_norm: float) -> float:
    """Scales all gradients to a norm of `max_norm` at most; returns the norm before."""
    weights = [p for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
    total = float(whole(norm))
    # Most gradients are small enough, and then the pass over all of them is saved.
    if total > max_norm:
        nn.utils.clip_grads_with_norm_(weights, max_norm, norm)
    return total
