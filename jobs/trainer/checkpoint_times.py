"""[torch] When a job writes its checkpoints, and how it goes on from the last one."""

import time
from collections.abc import Callable

import torch
from torch import nn

from jobs.trainer.autopilot import check_disk
from jobs.trainer.checkpoint import (
    checkpoint_files,
    gather,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from jobs.trainer.compute.model import trained_parameters
from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.runfolder import RunFolder
from jobs.trainer.processes.ranks import Ranks

# Writing checkpoints may take at most this share of the time.
CHECKPOINT_SHARE = 1 / 20
# Bytes for each trained weight: the weight and the two averages of AdamW, in float32.
CHECKPOINT_BYTES = 3 * 4


class Checkpoints:
    """Writes and loads the checkpoints of a job.

    All processes call the methods together, and only the first process writes.
    """

    def __init__(
        self,
        folder: RunFolder,
        events: EventWriter,
        ranks: Ranks,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        seconds: float,
        check_weights: Callable[[], None],
    ) -> None:
        """Takes the `seconds` between checkpoints, and a check of the weights.

        `check_weights` raises if a weight is infinite or not a number, so the last
        checkpoint is always a good one.
        """
        self.folder = folder
        self.events = events
        self.ranks = ranks
        self.model = model
        self.optimizer = optimizer
        self.seconds = seconds
        self.check_weights = check_weights
        self.due_at = time.monotonic() + seconds

    def resume(self) -> int:
        """Loads the last checkpoint; returns its steps done, or 0 without one."""
        step = self.ranks.first(lambda: latest_checkpoint(self.folder.checkpoint))
        if step is None:
            return 0
        path = self.folder.checkpoint / str(step)
        load_checkpoint(path, self.model, self.optimizer)
        return step

    def write_if_time(self, step: int) -> None:
        """Writes a checkpoint if enough time has passed since the last one."""
        if self.ranks.first(lambda: time.monotonic() < self.due_at):
            return
        began = time.monotonic()
        self.write(step)
        cost = time.monotonic() - began
        self.due_at = time.monotonic() + max(self.seconds, cost / CHECKPOINT_SHARE)

    def write(self, step: int) -> None:
        """Writes the checkpoint of a step, unless it exists or no step is done yet."""
        if not step or not self.ranks.first(lambda: self._has_to_save(step)):
            return
        self.check_weights()
        files = checkpoint_files(self.model, self.optimizer)
        if self.ranks.is_first:
            save_checkpoint(self.folder.checkpoint, step, files)
        else:
            gather(files)

    def _has_to_save(self, step: int) -> bool:
        """Returns False when the checkpoint exists already."""
        if (self.folder.checkpoint / str(step)).exists():
            return False
        trained = sum(p.numel() for p in trained_parameters(self.model).values())
        check_disk(self.folder.path, trained * CHECKPOINT_BYTES, "checkpoint")
        self.events.sync()
        return True
