"""[torch] What people watch while a job trains: validation, completions, snapshots."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from jobs.trainer.autopilot import check_disk
from jobs.trainer.compute.batches import MicroBatch
from jobs.trainer.compute.objective import Losses, losses_of, sums_of
from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.runfolder import Numerics, RunFolder
from jobs.trainer.contract.spec import Spec
from jobs.trainer.numerics import autocast, uncompiled
from jobs.trainer.prepare import validation_batches
from jobs.trainer.processes.ranks import Ranks
from jobs.trainer.processes.sharding import Learner, lead, num_learned
from jobs.trainer.rows.plan import is_due
from jobs.trainer.snapshot import save_snapshot, snapshot_bytes, snapshot_state
from jobs.trainer.watched_prompts import WatchedPrompts


class Watch:
    """Measures and saves a job's model between its steps.

    After a step it makes what is due: the validation, the answers to the watched
    prompts, and the snapshot. Each of them becomes an event.
    """

    def __init__(
        self,
        folder: RunFolder,
        events: EventWriter,
        spec: Spec,
        numerics: Numerics,
        learner: Learner,
        ranks: Ranks,
        total_steps: int,
        base_sha256: str,
        *,
        is_to_end: Callable[[], bool],
        check_weights: Callable[[], None],
        meanwhile: Callable[[], None],
    ) -> None:
        """Takes the parts of the job, and three functions that it calls.

        `is_to_end` returns whether people want the job to end. `meanwhile` is called
        again and again while tokens are counted. Only process 0 calls these two.
        `check_weights` raises if a weight is infinite or not a number; all processes
        call it.
        """
        self.folder = folder
        self.events = events
        self.spec = spec
        self.numerics = numerics
        self.learner = learner
        self.model = learner.model
        self.ranks = ranks
        self.total_steps = total_steps
        self.base_sha256 = base_sha256
        self.is_to_end = is_to_end
        self.check_weights = check_weights
        self.prompts = WatchedPrompts(events, spec, numerics.answers_at_once, is_to_end)
        self.validation = validation_batches(spec, numerics, ranks, meanwhile)
        # The step of the last validation, and its losses.
        self.validated: tuple[int, Losses] | None = None

    def look(self, step: int, learned_loss: float | None) -> bool:
        """Makes what is due after a step, unless it is on record already.

        Step 0 means before the first step. Returns False when people want the job to
        end first; a later call makes the rest. `learned_loss` is the learned loss of
        this step, for its snapshot.
        """
        missing = self.ranks.first(lambda: self._missing(step))
        if not missing:
            return True
        if self.ranks.first(self.is_to_end):
            return False
        self.check_weights()
        if "validation" in missing:
            self._validate(step)
        if "completion" in missing and not self._answer(step):
            return False
        if "snapshot" in missing:
            self.snapshot(step, learned_loss)
        return True

    def _missing(self, step: int) -> list[str]:
        """Returns the types of events that are due after a step and not on record."""
        spec = self.spec
        due = []
        snapshot_due = self._snapshot_is_due(step)
        every = spec.validation_every or spec.completions_every or spec.snapshots_every
        if spec.validation and (snapshot_due or self._is_due(step, every)):
            due.append("validation")
        if snapshot_due:
            due.append("snapshot")
        missing = [type_ for type_ in due if not self.events.has(type_, step=step)]
        answers_due = spec.completions_every and self._is_due(
            step, spec.completions_every
        )
        if answers_due and self.prompts.lacks_answers(step):
            missing.append("completion")
        return missing

    def snapshot(
        self, step: int, learned_loss: float | None, requests: int = 0
    ) -> None:
        """Saves the weights for good, and marks the best so far by validation loss.

        `requests` is the number of snapshot requests so far, all of which are met now.
        Raises OSError when the disk has too little room.
        """
        if self.validated is None or self.validated[0] != step:
            self._validate(step)
        validation_loss = finite(self.validated[1].loss) if self.validated else None
        facts = {
            "learned_loss": finite(learned_loss),
            "validation_loss": validation_loss,
            "best": self._is_best(validation_loss),
            "base_sha256": self.base_sha256,
        }
        state = {}
        if self.ranks.first(lambda: self._has_to_save(step)):
            self.check_weights()
            state = snapshot_state(self.model, keep=self.ranks.is_first)
        self.ranks.first(lambda: self._save(step, state, facts, requests))

    def _has_to_save(self, step: int) -> bool:
        """Returns False when the snapshot exists already."""
        if (self.folder.snapshots / str(step)).exists():
            return False
        check_disk(self.folder.path, snapshot_bytes(self.model), "snapshot")
        return True

    def _save(
        self,
        step: int,
        state: dict[str, torch.Tensor],
        facts: dict[str, Any],
        requests: int,
    ) -> None:
        saved = save_snapshot(
            self.folder.snapshots, self.model, state, self.spec, step, **facts
        )
        self.events.write(
            "snapshot",
            step=step,
            id=saved["id"],
            path=f"snapshots/{step}",
            sha256=saved["sha256"],
            num_bytes=saved["num_bytes"],
            requests=requests,
            **facts,
        )
        # The event is left out if the step had its snapshot, but the request is met.
        self.events.snapshot_requests = max(self.events.snapshot_requests, requests)

    def _is_due(self, step: int, every: int) -> bool:
        return step == 0 or is_due(step, self.total_steps, every)

    def _is_best(self, validation_loss: float | None) -> bool:
        best = self.events.best_validation_loss
        return validation_loss is not None and (best is None or validation_loss < best)

    def has_stalled(self, step: int) -> bool:
        """Returns whether `early_stop` snapshots in a row brought no better loss.

        Only the snapshots that come every so many steps count. So the best one is
        always kept, and a job that was killed and resumed ends at the same step.
        """
        if not self.spec.early_stop or step == self.total_steps:
            return False
        if not self._snapshot_is_due(step):
            return False
        return self.ranks.first(
            lambda: is_stalled(self._snapshot_losses(step), self.spec.early_stop)
        )

    def stall_words(self, step: int) -> str:
        """Returns the message for people that says why the job ended early."""
        losses = self._snapshot_losses(step)
        patience = self.spec.early_stop
        best = min(losses)
        return (
            f"Ended early at step {step:,} of {self.total_steps:,}: the validation "
            f"loss did not fall below {best:.4f} at the last {patience:,} snapshots. "
            "The snapshot that reached it is marked as the best."
        )

    def _snapshot_losses(self, step: int) -> list[float]:
        """Returns the validation losses of the snapshots that were due up to a step."""
        losses = sorted(self.events.snapshot_losses.items())
        return [loss for at, loss in losses if at <= step and self._snapshot_is_due(at)]

    def _snapshot_is_due(self, step: int) -> bool:
        every = self.spec.snapshots_every
        return step > 0 and is_due(step, self.total_steps, every)

    def _validate(self, step: int) -> None:
        if self.spec.validation is None:
            return
        with uncompiled(self.numerics), autocast(self.numerics, self.ranks.device):
            losses = validation_losses(self.learner, self.validation, self.ranks)
        self.validated = (step, losses)
        self.events.write(
            "validation",
            step=step,
            loss=losses.loss,
            learned_loss=losses.learned_loss,
            accuracy=losses.accuracy,
        )

    def _answer(self, step: int) -> bool:
        """Answers the watched prompts; False when people want the job to end first.

        Process 0 answers and the others wait: sharing so few prompts would gain little.
        """
        done = True

        def answer(model: nn.Module) -> None:
            nonlocal done
            done = self.prompts.write_answers(model, step)

        if self.numerics.sharded:
            lead(self.learner, self.ranks, answer)
        elif self.ranks.is_first:
            with uncompiled(self.numerics):
                answer(self.model)
        return self.ranks.first(lambda: done)


@torch.no_grad()
def validation_losses(
    learner: Learner, batches: list[MicroBatch], ranks: Ranks
) -> Losses:
    """Returns the losses over all validation rows of all processes, without dropout."""
    learner.model.eval()
    total = None
    for batch in batches:
        sums = learner(partial(sums_of, batch=batch))
        if sums is not None and batch.num_tokens:
            total = sums if total is None else total + sums
    learner.model.train()
    counts = ranks.sum(torch.tensor([num_learned(batches)]))
    return losses_of(ranks.sum_losses(total), int(counts[0]))


def finite(loss: float | None) -> float | None:
    """Returns the loss, or None if it is not finite, which JSON cannot write."""
    return loss if loss is not None and math.isfinite(loss) else None


def is_stalled(losses: list[float], patience: int) -> bool:
    """Returns whether none of the last `patience` losses is below all before them."""
    earlier, last = losses[:-patience], losses[-patience:]
    return bool(earlier) and min(last) >= min(earlier)
