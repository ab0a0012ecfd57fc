"""[torch] One optimiser step: gradients over all its rows, then the update."""

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
    """What is known of a step before its update."""

    losses: Losses
    # Of all gradients together, before they were clipped by it.
    norm: float
    # N of the whole step; without any there is nothing to update by.
    num_learned: int


class Learning:
    """A model, its optimiser, and how a step changes both."""

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
        """Of all processes together, clipped."""
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
        """Change the weights; returns the step's rate."""
        rate = self._rate_of(step)
        if gradients.num_learned:
            set_rate(self.optimizer, rate)
            self.optimizer.step()
        return rate

    def has_broken_weights(self) -> bool:
        """Whether a trained weight is no finite number, in any of the processes."""
        own = map(own_part, trained_parameters(self.model).values())
        broken = self.ranks.sum(torch.tensor([int(any_broken(own))]))
        return bool(broken[0])

    def add_up(self, batches: list[MicroBatch], learned: int) -> Sums | None:
        """Add up the step's gradients; returns its sums over all processes."""
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
            # Divided by the whole step's N, so that gradients simply add up.
            (sums.weighted / learned).backward()
            total = sums.detach() if total is None else total + sums.detach()
        if not self.numerics.sharded:
            self.ranks.sum_gradients(trained_parameters(self.model).values())
        return self.ranks.sum_losses(total)

    def _seed_the_others(self, step: int) -> None:
        """Dropout differs among processes; a checkpoint has the first one's state."""
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
    # Mostly they are small enough, and going over all of them would be for nothing.
    if total > max_norm:
        nn.utils.clip_grads_with_norm_(weights, max_norm, norm)
    return total
