"""[torch] Gives each step of a job its rows as tensors.

For a CUDA device a thread makes and pins them one step ahead, so that the device does
not wait. On a CPU such a thread would only take a core from the step.
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
    """The share of one step's rows that this process learns from."""

    batches: list[MicroBatch]
    # The number of tokens with a weight above 0 in this share.
    num_learned: int
    # The number of (input, target) pairs in the whole step, without padding.
    num_tokens: int


class Feed:
    """Gives the rows of a job step by step. Steps are counted from 1."""

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
        # The step whose rows the thread makes or has made, and those rows.
        self.coming: tuple[int, Future[StepRows]] | None = None

    def take(self, step: int) -> StepRows:
        """Returns this process's rows of a step, and starts on the next step's."""
        rows = self._made(step)
        if self.thread and step < self.total_steps:
            self.coming = (step + 1, self.thread.submit(self._make, step + 1))
        return rows

    def epochs(self, step: int) -> float:
        """Returns how many epochs are done after a step, as a fraction."""
        return round(step / self.steps_per_epoch, 4)

    def num_tokens(self, step: int) -> int:
        """Returns the (input, target) pairs in a whole step, without padding."""
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
            # A new thread uses the first device, which may belong to another process.
            torch.cuda.set_device(self.ranks.device)
            batches = [batch.pinned() for batch in batches]
        return StepRows(batches, count, self.num_tokens(step))

    def _rows_of(self, step: int) -> list[int]:
        epoch, within = divmod(step - 1, self.steps_per_epoch)
        order = row_order(self.packing.num_rows, self.spec.seed, epoch)
        first = within * self.spec.batch_size
        rows: list[int] = order[first : first + self.spec.batch_size].tolist()
        return rows
