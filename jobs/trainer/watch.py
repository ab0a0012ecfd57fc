"""[torch] What people watch while a job runs: validation, completions, snapshots."""

import hashlib

import torch
from torch import nn

from jobs.trainer.autopilot import check_disk
from jobs.trainer.batches import MicroBatch
from jobs.trainer.encoding import encode_prompt, end_of_text_id, load_tokenizer
from jobs.trainer.events import EventWriter
from jobs.trainer.generation import Sampling, complete
from jobs.trainer.objective import Losses, count_learned, losses_of, sums_of
from jobs.trainer.plan import is_due
from jobs.trainer.prepare import autocast, validation_batches
from jobs.trainer.runfolder import Numerics, RunFolder
from jobs.trainer.snapshot import save_snapshot, snapshot_bytes
from jobs.trainer.spec import Spec


class Watch:
    """Looks at a job's model between its steps, and writes down what it sees."""

    def __init__(
        self,
        folder: RunFolder,
        events: EventWriter,
        spec: Spec,
        numerics: Numerics,
        model: nn.Module,
        total_steps: int,
    ) -> None:
        self.folder = folder
        self.events = events
        self.spec = spec
        self.numerics = numerics
        self.model = model
        self.total_steps = total_steps
        self.device = next(model.parameters()).device
        self.tokenizer = load_tokenizer(spec.model.path)
        self.end_id = end_of_text_id(spec.model.path)
        self.validation = validation_batches(spec, numerics, self.device)
        # The last step that was validated, and its losses.
        self.validated: tuple[int, Losses] | None = None

    def look(self, step: int, learned_loss: float | None) -> None:
        """What is due after a step; 0 is before the first.

        `learned_loss` is the step's own, for its snapshot.
        """
        spec = self.spec
        snapshot_due = step > 0 and is_due(step, self.total_steps, spec.snapshots_every)
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
        if self.validation and (self.validated is None or self.validated[0] != step):
            self._validate(step)
        validation_loss = self.validated[1].loss if self.validated else None
        facts = {
            "learned_loss": learned_loss,
            "validation_loss": validation_loss,
            "best": self._is_best(validation_loss),
        }
        if not (self.folder.snapshots / str(step)).exists():
            check_disk(self.folder.path, snapshot_bytes(self.model), "snapshot")
        saved = save_snapshot(
            self.folder.snapshots, self.model, self.spec, step, **facts
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

    def _validate(self, step: int) -> None:
        if not self.validation:
            return
        with autocast(self.numerics, self.device):
            losses = validation_losses(self.model, self.validation)
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

        All are made even when some are there: rounding depends on what is answered
        together, and a resumed job must say the same.
        """
        spec = self.spec
        wanted = [
            (number, index)
            for number in range(len(spec.prompts))
            for index in range(spec.num_completions)
        ]
        if all(
            self.events.has("completion", step=step, prompt_index=number, index=index)
            for number, index in wanted
        ):
            return
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
def validation_losses(model: nn.Module, batches: list[MicroBatch]) -> Losses:
    """The losses of section 6 over all validation rows, without dropout."""
    model.eval()
    total = None
    for batch in batches:
        sums = sums_of(model, batch)
        if sums is not None:
            total = sums if total is None else total + sums
    model.train()
    return losses_of(total, count_learned(batches))


def completion_seed(job: str, step: int, prompt_index: int, index: int) -> int:
    """A function of its arguments, so that a resumed job answers the same."""
    text = f"{job} {step} {prompt_index} {index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
