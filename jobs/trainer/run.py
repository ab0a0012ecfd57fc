"""[torch] A job from start to end: the optimiser steps and all that comes with them."""

import math
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from threading import Event

import torch
from torch import nn

from jobs.trainer.autopilot import (
    StartAgain,
    Trouble,
    check_disk,
    disk_words,
    halve_micro_batch,
    halve_rate,
    is_disk_full,
    is_out_of_memory,
)
from jobs.trainer.batches import MicroBatch, micro_batches
from jobs.trainer.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from jobs.trainer.events import EventWriter
from jobs.trainer.model import ModelError, trained_parameters
from jobs.trainer.objective import count_learned, losses_of, sums_of
from jobs.trainer.optimizer import make_optimizer, rate_at, set_rate
from jobs.trainer.packing import row_order
from jobs.trainer.prepare import (
    autocast,
    choose_numerics,
    model_to_train,
    open_data,
)
from jobs.trainer.runfolder import RunFolder
from jobs.trainer.spec import Spec, SpecError
from jobs.trainer.watch import Watch

# A checkpoint may take at most this share of the time.
CHECKPOINT_SHARE = 1 / 20
# A trained weight and the optimiser's two averages of it, in float32.
CHECKPOINT_BYTES = 3 * 4
FINAL = {"succeeded", "failed", "cancelled"}


def run(path: Path) -> int:
    """Train the job of a run folder to its end, or go on with it.

    Returns the exit code: 0 when the job ended as people wanted, paused included.
    """
    folder = RunFolder(path)
    events = EventWriter(folder.events)
    told_to_leave = Event()
    signal.signal(signal.SIGTERM, lambda *_: told_to_leave.set())
    if events.last_status in FINAL:
        return 0
    try:
        while True:
            try:
                Trainer(folder, events, told_to_leave).train()
                return 0
            except StartAgain:
                continue
    except (SpecError, ModelError, Trouble) as error:
        events.write("status", status="failed", message=str(error))
        return 1
    except OSError as error:
        if not is_disk_full(error):
            raise
        # The site sees a pause that nobody asked for, and keeps it one.
        events.write("status", status="paused", message=disk_words(error), forced=True)
        return 0


class Trainer:
    """Everything a job holds in memory. `train` is the story."""

    def __init__(
        self, folder: RunFolder, events: EventWriter, told_to_leave: Event
    ) -> None:
        self.folder = folder
        self.events = events
        self.told_to_leave = told_to_leave
        self.spec = Spec.load(folder.spec)

        # ----- data
        spec = self.spec
        self.cache, self.packing = open_data(spec.train, spec)
        if not self.cache.facts.learned_targets:
            raise SpecError(
                "Every loss weight in the dataset is 0, so there is nothing to learn. "
                "Give the parts to be learned a weight above 0 and start a new job."
            )
        self.steps_per_epoch = math.ceil(self.packing.num_rows / spec.batch_size)
        self.total_steps = self.steps_per_epoch * spec.epochs

        # ----- model
        self.numerics = choose_numerics(folder, spec)
        torch.set_num_threads(self.numerics.threads)
        torch.manual_seed(spec.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model_to_train(spec).to(self.device)
        self.model.train()
        self.optimizer = make_optimizer(self.model, spec.weight_decay)
        self.watch = Watch(
            folder, events, spec, self.numerics, self.model, self.total_steps
        )

        # ----- where the job stands
        # Steps done.
        self.step = 0
        # Of the step done last by this process.
        self.learned_loss: float | None = None
        self.checkpoint_at = time.monotonic() + spec.checkpoint_seconds

    def train(self) -> None:
        """Step by step until the last, or until people want otherwise."""
        self._resume()
        self._say_hello()
        while self.step < self.total_steps:
            if self._is_to_end_now():
                return
            if self.step == 0:
                self.watch.look(0, None)
            self._step_safely(self.step + 1)
            self.step += 1
            self.watch.look(self.step, self.learned_loss)
            self._checkpoint_if_time()
        self._end("succeeded")

    def _end(self, status: str) -> None:
        """For good: nobody goes on from the checkpoint, which takes much room."""
        self.events.write("status", status=status, message="")
        self.events.sync()
        shutil.rmtree(self.folder.checkpoint, ignore_errors=True)

    # ----- one step

    def _step_safely(self, step: int) -> None:
        try:
            self._step(step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            rows = min(self.numerics.micro_batch, self.spec.batch_size)
            halve_micro_batch(self.folder, self.events, self.numerics, step, rows)

    def _step(self, step: int) -> None:
        """One optimiser update over `batch_size` rows."""
        began = time.perf_counter()
        batches = self._batches_of(step)
        num_learned = count_learned(batches)
        total = None
        self.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            with autocast(self.numerics, self.device):
                sums = sums_of(self.model, batch.to(self.device))
            if sums is None:
                continue
            # Divided by the whole step's N, so that gradients simply add up.
            (sums.weighted / num_learned).backward()
            total = sums.detach() if total is None else total + sums.detach()
        losses = losses_of(total, num_learned)
        norm = self._norm() if total is not None else 0.0
        if not math.isfinite(losses.loss + norm):
            bad = losses.loss if math.isfinite(norm) else norm
            halve_rate(self.folder, self.events, self.numerics, step, bad)
        rate = self._rate_of(step)
        if total is not None:
            set_rate(self.optimizer, rate)
            self.optimizer.step()
        self.learned_loss = losses.learned_loss
        num_tokens = sum(batch.num_tokens for batch in batches)
        self.events.write(
            "step",
            step=step,
            loss=losses.loss,
            learned_loss=losses.learned_loss,
            accuracy=losses.accuracy,
            lr=rate,
            grad_norm=norm,
            tokens=num_tokens,
            tokens_per_second=round(num_tokens / (time.perf_counter() - began), 1),
            memory_bytes=memory_bytes(),
            epoch=round(step / self.steps_per_epoch, 4),
        )

    def _batches_of(self, step: int) -> list[MicroBatch]:
        epoch, within = divmod(step - 1, self.steps_per_epoch)
        order = row_order(self.packing.num_rows, self.spec.seed, epoch)
        first = within * self.spec.batch_size
        rows = order[first : first + self.spec.batch_size].tolist()
        return micro_batches(self.cache, self.packing, rows, self.numerics.micro_batch)

    def _norm(self) -> float:
        """The norm of all gradients together, which are clipped by it."""
        return float(nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.clip))

    def _rate_of(self, step: int) -> float:
        return rate_at(
            step,
            self.total_steps,
            peak=self.spec.learning_rate * self.numerics.rate_share,
            warmup=self.spec.warmup,
            schedule=self.spec.schedule,
        )

    # ----- what people want

    def _is_to_end_now(self) -> bool:
        """Look at control.json: meet a request; when told to go, leave all in order."""
        control = self.folder.read_control()
        # Until it has repeated what is on record, a resumed job would stop short of it.
        caught_up = self.step >= self.events.last_step
        if control.want == "stop" and caught_up:
            if self.step:
                self.watch.snapshot(self.step, self.learned_loss)
            self._end("cancelled")
            return True
        if control.want == "pause":
            self._checkpoint()
            self.events.write("status", status="paused", message="")
            self.events.sync()
            return True
        # A job to be stopped leaves once it has caught up, with its last snapshot.
        if self.told_to_leave.is_set() and control.want != "stop":
            self._checkpoint()
            return True
        asked = control.snapshot_request > self.events.snapshot_requests
        if asked and self.step and caught_up:
            requests = control.snapshot_request
            self.watch.snapshot(self.step, self.learned_loss, requests)
        return False

    # ----- going on later

    def _resume(self) -> None:
        checkpoint = latest_checkpoint(self.folder.checkpoint)
        if checkpoint is not None:
            self.step = load_checkpoint(checkpoint, self.model, self.optimizer)

    def _checkpoint_if_time(self) -> None:
        if time.monotonic() < self.checkpoint_at:
            return
        began = time.monotonic()
        self._checkpoint()
        cost = time.monotonic() - began
        pause = max(self.spec.checkpoint_seconds, cost / CHECKPOINT_SHARE)
        self.checkpoint_at = time.monotonic() + pause

    def _checkpoint(self) -> None:
        if not self.step:
            return
        trained = sum(p.numel() for p in trained_parameters(self.model).values())
        check_disk(self.folder.path, trained * CHECKPOINT_BYTES, "checkpoint")
        self.events.sync()
        save_checkpoint(self.folder.checkpoint, self.step, self.model, self.optimizer)

    def _say_hello(self) -> None:
        """Status and a log line. A job that went on after a death has both already."""
        if self.events.seq == 0:
            facts = self.cache.facts
            self.events.write("status", status="running", message="")
            self.events.write(
                "log",
                level="info",
                micro_batch=self.numerics.micro_batch,
                message=(
                    f"{facts.targets:,} tokens in {self.packing.num_rows:,} rows of "
                    f"{self.spec.max_tokens:,}; {facts.learned_targets:,} are learned, "
                    f"{facts.targets - facts.learned_targets:,} are read"
                ),
            )
            return
        if self.events.last_status == "paused":
            self.events.write("status", status="running", message="")
        self.events.write(
            "log",
            level="info",
            message=f"Goes on from the checkpoint of step {self.step:,}",
        )
        self._say_if_eased()

    def _say_if_eased(self) -> None:
        """The site halves the micro-batch of a job that died without a word."""
        rows = self.numerics.micro_batch
        if self.events.micro_batch in {None, rows}:
            return
        self.events.write(
            "autopilot",
            step=self.step,
            micro_batch=rows,
            message=(
                f"From here on with {rows} rows at a time, which needs less memory: "
                "the trainer had ended without saying why."
            ),
        )


def memory_bytes() -> int:
    """Memory in use: of the device if it has its own, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
