"""[torch] What each step learns from: its rows as tensors.

For a CUDA device they are made and pinned one step ahead, in a thread, so that the
device waits for neither. On a CPU the thread would only take a core from the step.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from jobs.trainer.compute.batches import MicroBatch
from jobs.trainer.contract.runfolder import Numerics
from jobs.trainer.contract.spec import Spec
from jobs.trainer.prepare import batches_for
from jobs.trainer.processes.ranks import Ranks
from jobs.trainer.processes.sharding import num_learned
from jobs.trainer.rows.packing import Packing, row_order
from jobs.trainer.rows.token_cache import TokenCache


@dataclass(frozen=True)
class StepRows:
    """This process's share of a step."""

    batches: list[MicroBatch]
    # Tokens with a weight above 0 in the share.
    num_learned: int
    # Pairs of the whole step, without padding.
    num_tokens: int


class Feed:
    """The rows of a job, step by step, counted from 1."""

    def __init__(
        self,
        spec: Spec,
        numerics: Numerics,
        ranks: Ranks,
        cache: TokenCache,
        packing: Packing,
        *,
        ahead: bool,
    ) -> None:
        self.spec = spec
        self.numerics = numerics
        self.ranks = ranks
        self.cache = cache
        self.packing = packing
        self.steps_per_epoch = -(-packing.num_rows // spec.batch_size)
        self.total_steps = self.steps_per_epoch * spec.epochs
        self.thread = ThreadPoolExecutor(1) if ahead else None
        # The step that the thread is making, or has made.
        self.coming: tuple[int, Future[StepRows]] | None = None

    def take(self, step: int) -> StepRows:
        rows = self._made(step)
        if self.thread and step < self.total_steps:
            self.coming = (step + 1, self.thread.submit(self._make, step + 1))
        return rows

    def epochs(self, step: int) -> float:
        """How often everything has been learned from after a step."""
        return round(step / self.steps_per_epoch, 4)

    def num_tokens(self, step: int) -> int:
        """Pairs of the whole step, without padding."""
        rows = self._rows_of(step)
        return sum(length for row in rows for *_, length in self.packing.row(row))

    def _made(self, step: int) -> StepRows:
        if self.coming and self.coming[0] == step:
            return self.coming[1].result()
        return self._make(step)

    def _make(self, step: int) -> StepRows:
        rows = self._rows_of(step)
        batches = batches_for(self.ranks, self.numerics, self.cache, self.packing, rows)
        count = num_learned(batches)
        if self.ranks.device.type == "cuda":
            # A thread begins on the first device, where this process may have no part.
            torch.cuda.set_device(self.ranks.device)
            batches = [batch.pinned() for batch in batches]
        return StepRows(batches, count, self.num_tokens(step))

    def _rows_of(self, step: int) -> list[int]:
        epoch, within = divmod(step - 1, self.steps_per_epoch)
        order = row_order(self.packing.num_rows, self.spec.seed, epoch)
        first = within * self.spec.batch_size
        rows: list[int] = order[first : first + self.spec.batch_size].tolist()
        return rows
