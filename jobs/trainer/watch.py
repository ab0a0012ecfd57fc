"""[torch] What people watch while a job runs: validation, completions, snapshots."""

import hashlib
from functools import partial
from typing import Any

import torch

from jobs.trainer.autopilot import check_disk
from jobs.trainer.batches import MicroBatch
from jobs.trainer.encoding import encode_prompt, end_of_text_id, load_tokenizer
from jobs.trainer.events import EventWriter
from jobs.trainer.generation import Sampling, complete
from jobs.trainer.numerics import autocast, uncompiled
from jobs.trainer.objective import Losses, losses_of, sums_of
from jobs.trainer.plan import is_due
from jobs.trainer.prepare import validation_batches
from jobs.trainer.ranks import Ranks
from jobs.trainer.runfolder import Numerics, RunFolder
from jobs.trainer.sharding import Learner, lead, num_learned
from jobs.trainer.snapshot import save_snapshot, snapshot_bytes, snapshot_state
from jobs.trainer.spec import Spec


class Watch:
    """Looks at a job's model between its steps, and writes down what it sees."""

    def __init__(
        self,
        folder: RunFolder,
        events: EventWriter,
        spec: Spec,
        numerics: Numerics,
        learner: Learner,
        ranks: Ranks,
        total_steps: int,
    ) -> None:
        self.folder = folder
        self.events = events
        self.spec = spec
        self.numerics = numerics
        self.learner = learner
        self.model = learner.model
        self.ranks = ranks
        self.total_steps = total_steps
        self.tokenizer = load_tokenizer(spec.model.path)
        self.end_id = end_of_text_id(spec.model.path)
        self.validation = validation_batches(spec, numerics, ranks)
        # The last step that was validated, and its losses.
        self.validated: tuple[int, Losses] | None = None

    def look(self, step: int, learned_loss: float | None) -> None:
        """What is due after a step; 0 is before the first.

        `learned_loss` is the step's own, for its snapshot.
        """
        spec = self.spec
        snapshot_due = self._snapshot_is_due(step)
        every = spec.validation_every or spec.completions_every or spec.snapshots_every
        if snapshot_due or self._is_due(step, every):
            self._validate(step)
        if spec.completions_every and self._is_due(step, spec.completions_every):
            self._answer(step)
        if snapshot_due:
            self.snapshot(step, learned_loss)

    def snapshot(
        self, step: int, learned_loss: float | None, requests: int = 0
    ) -> None:
        """Save the weights for good; the best so far by validation is marked.

        `requests`: how many of people's requests are met with it. Raises OSError when
        the disk has too little room.
        """
        if self.validated is None or self.validated[0] != step:
            self._validate(step)
        validation_loss = self.validated[1].loss if self.validated else None
        facts = {
            "learned_loss": learned_loss,
            "validation_loss": validation_loss,
            "best": self._is_best(validation_loss),
        }
        state = {}
        if self.ranks.first(lambda: self._has_to_save(step)):
            state = snapshot_state(self.model, keep=self.ranks.is_first)
        self.ranks.first(lambda: self._save(step, state, facts, requests))

    def _has_to_save(self, step: int) -> bool:
        """False when the snapshot is there already."""
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
        # Also when this step had its snapshot already.
        self.events.snapshot_requests = max(self.events.snapshot_requests, requests)

    def _is_due(self, step: int, every: int) -> bool:
        return step == 0 or is_due(step, self.total_steps, every)

    def _is_best(self, validation_loss: float | None) -> bool:
        best = self.events.best_validation_loss
        return validation_loss is not None and (best is None or validation_loss < best)

    def has_stalled(self, step: int) -> bool:
        """Whether the validation loss has not become better for long enough.

        Only snapshots that come every so many steps count: so the best is always kept,
        and a job that was killed ends at the same step.
        """
        if not self.spec.early_stop or step == self.total_steps:
            return False
        if not self._snapshot_is_due(step):
            return False
        return self.ranks.first(
            lambda: is_stalled(self._snapshot_losses(step), self.spec.early_stop)
        )

    def stall_words(self, step: int) -> str:
        losses = self._snapshot_losses(step)
        patience = self.spec.early_stop
        best = min(losses)
        return (
            f"Ended early at step {step:,} of {self.total_steps:,}: the validation "
            f"loss did not fall below {best:.4f} at the last {patience:,} snapshots. "
            "The snapshot that reached it is marked as the best."
        )

    def _snapshot_losses(self, step: int) -> list[float]:
        """Of the snapshots up to a step that were due."""
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

    def _answer(self, step: int) -> None:
        """Answer every watched prompt, unless all answers are on record already.

        Process 0 does it. The others wait, for dividing a few prompts gains little.
        """
        if not self.ranks.first(lambda: self._lacks_answers(step)):
            return
        if self.numerics.sharded:
            lead(self.learner, self.ranks, lambda model: self._write_answers(step))
        elif self.ranks.is_first:
            with uncompiled(self.numerics):
                self._write_answers(step)

    def _lacks_answers(self, step: int) -> bool:
        return not all(
            self.events.has("completion", step=step, prompt_index=number, index=index)
            for number, index in self._wanted_answers()
        )

    def _wanted_answers(self) -> list[tuple[int, int]]:
        return [
            (number, index)
            for number in range(len(self.spec.prompts))
            for index in range(self.spec.num_completions)
        ]

    def _write_answers(self, step: int) -> None:
        """All are made even when some are on record: rounding depends on what is
        answered together, and a resumed job must say the same.
        """
        spec = self.spec
        wanted = self._wanted_answers()
        answers = complete(
            self.model,
            self.tokenizer,
            [
                encode_prompt(self.tokenizer, spec.prompts[number], self.end_id)
                for number, _ in wanted
            ],
            Sampling(
                temperature=spec.completion_temperature,
                max_tokens=spec.completion_tokens,
            ),
            self.end_id,
            seeds=[completion_seed(spec.job, step, *which) for which in wanted],
        )
        for (number, index), answer in zip(wanted, answers, strict=True):
            self.events.write(
                "completion",
                step=step,
                prompt_index=number,
                prompt=spec.prompts[number],
                index=index,
                text=answer.text,
                finish_reason=answer.finish_reason,
            )


@torch.no_grad()
def validation_losses(
    learner: Learner, batches: list[MicroBatch], ranks: Ranks
) -> Losses:
    """The losses of section 6 over all validation rows, without dropout."""
    learner.model.eval()
    total = None
    for batch in batches:
        sums = learner(partial(sums_of, batch=batch))
        if sums is not None and batch.num_tokens:
            total = sums if total is None else total + sums
    learner.model.train()
    counts = ranks.sum(torch.tensor([num_learned(batches)]))
    return losses_of(ranks.sum_losses(total), int(counts[0]))


def is_stalled(losses: list[float], patience: int) -> bool:
    """Whether the last `patience` losses are all no better than the best before."""
    earlier, last = losses[:-patience], losses[-patience:]
    return bool(earlier) and min(last) >= min(earlier)


def completion_seed(job: str, step: int, prompt_index: int, index: int) -> int:
    """A function of its arguments, so that a resumed job answers the same."""
    text = f"{job} {step} {prompt_index} {index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
