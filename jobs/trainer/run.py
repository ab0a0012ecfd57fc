"""[torch] A job from start to end: the optimiser steps and all that comes with them."""

import math
import os
import resource
import shutil
import signal
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Literal

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
from jobs.trainer.batches import MicroBatch
from jobs.trainer.checkpoint import (
    checkpoint_files,
    gather,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from jobs.trainer.events import EventWriter, last_status, read_events
from jobs.trainer.launch import FAREWELL_SECONDS, is_first, join, start_over
from jobs.trainer.model import ModelError, trained_parameters
from jobs.trainer.numerics import autocast, choose_numerics
from jobs.trainer.objective import Sums, losses_of, sums_of
from jobs.trainer.optimizer import make_optimizer, rate_at, set_rate
from jobs.trainer.packing import row_order
from jobs.trainer.prepare import batches_for, learner_of, open_data
from jobs.trainer.ranks import FirstFailed, Ranks
from jobs.trainer.runfolder import MemoryFull, Numerics, RunFolder
from jobs.trainer.sharding import num_learned, whole
from jobs.trainer.spec import Spec, SpecError
from jobs.trainer.watch import Watch

# A checkpoint may take at most this share of the time.
CHECKPOINT_SHARE = 1 / 20
# A trained weight and the optimiser's two averages of it, in float32.
CHECKPOINT_BYTES = 3 * 4
FINAL = {"succeeded", "failed", "cancelled"}
Wish = Literal["go on", "snapshot", "pause", "stop", "leave"]


def run(path: Path) -> int:
    """Train the job of a run folder to its end, or go on with it.

    Returns the exit code: 0 when the job ended as people wanted, paused included. Of
    several processes each one runs it, and only the first one writes.
    """
    folder = RunFolder(path)
    if not is_first():
        return _run_along(folder)
    events = EventWriter(folder.events)
    told_to_leave = Event()
    signal.signal(signal.SIGTERM, lambda *_: told_to_leave.set())
    if events.last_status in FINAL:
        return 0
    try:
        _train(folder, events, join(folder), told_to_leave)
    except (SpecError, ModelError, Trouble) as error:
        events.write("status", status="failed", message=str(error))
        return 1
    except OSError as error:
        if not is_disk_full(error):
            raise
        # The site sees a pause that nobody asked for, and keeps it one.
        events.write("status", status="paused", message=disk_words(error), forced=True)
    return 0


def _run_along(folder: RunFolder) -> int:
    """All that the first process does, without its files."""
    # The first one says when to leave.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if last_status(read_events(folder.events)[0]) in FINAL:
        return 0
    events = EventWriter(Path(os.devnull))
    try:
        _train(folder, events, join(folder), Event())
    except FirstFailed:
        return 0
    except (SpecError, ModelError):
        # The first one fails with the same, and says so.
        time.sleep(FAREWELL_SECONDS)
    return 0


def _train(
    folder: RunFolder, events: EventWriter, ranks: Ranks, told_to_leave: Event
) -> None:
    while True:
        try:
            Trainer(folder, events, ranks, told_to_leave).train()
            return
        except StartAgain:
            continue
        except RuntimeError:
            # Failing for want of another process. Who started them knows why it is
            # gone, and ends this one or starts it over in a moment.
            if ranks.size > 1:
                time.sleep(FAREWELL_SECONDS)
            raise


class Trainer:
    """Everything a job holds in memory. `train` is the story.

    All processes of a job go through it together. What only the first may do (look at
    the clock, at files and signals, write, decide) stands in a `ranks.first(...)`.
    """

    def __init__(
        self,
        folder: RunFolder,
        events: EventWriter,
        ranks: Ranks,
        told_to_leave: Event,
    ) -> None:
        self.folder = folder
        self.events = events
        self.ranks = ranks
        self.told_to_leave = told_to_leave
        self.spec = Spec.load(folder.spec)

        # ----- data
        spec = self.spec
        self.cache, self.packing = open_data(spec.train, spec, ranks)
        if not self.cache.facts.learned_targets:
            raise SpecError(
                "Every loss weight in the dataset is 0, so there is nothing to learn. "
                "Give the parts to be learned a weight above 0 and start a new job."
            )
        self.steps_per_epoch = math.ceil(self.packing.num_rows / spec.batch_size)
        self.total_steps = self.steps_per_epoch * spec.epochs

        # ----- model
        self.numerics = Numerics(**ranks.first(self._choose_numerics))
        ranks.first(self._ease)
        torch.set_num_threads(self.numerics.threads)
        torch.manual_seed(spec.seed)
        self.device = ranks.device
        self.learner = learner_of(spec, self.numerics, ranks)
        self.model = self.learner.model
        self.model.train()
        self.optimizer = make_optimizer(self.model, spec.weight_decay)
        self.watch = Watch(
            folder, events, spec, self.numerics, self.learner, ranks, self.total_steps
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
        self.ranks.first(self._say_hello)
        while self.step < self.total_steps:
            if self._is_to_end_now():
                return
            if self.step == 0:
                self.watch.look(0, None)
            self._step_safely(self.step + 1)
            self.step += 1
            self.watch.look(self.step, self.learned_loss)
            if self.watch.has_stalled(self.step):
                self.ranks.first(self._end_early)
                return
            self._checkpoint_if_time()
        self.ranks.first(lambda: self._end("succeeded"))

    def _choose_numerics(self) -> dict[str, Any]:
        targets = self.cache.facts.targets
        return asdict(choose_numerics(self.folder, self.spec, targets, self.ranks.size))

    def _end_early(self) -> None:
        self._end("succeeded", self.watch.stall_words(self.step))

    def _end(self, status: str, message: str = "") -> None:
        """For good: nobody goes on from the checkpoint, which takes much room."""
        self.events.write("status", status=status, message=message)
        self.events.sync()
        shutil.rmtree(self.folder.checkpoint, ignore_errors=True)

    # ----- one step

    def _step_safely(self, step: int) -> None:
        try:
            self._step(step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            rows = self._rows_at_once()
            if self.ranks.size > 1:
                # The others wait for this process in the midst of the step.
                self.folder.write_full(MemoryFull(step=step, rows=rows))
                start_over()
            halve_micro_batch(self.folder, self.events, self.numerics, step, rows)

    def _rows_at_once(self) -> int:
        """How many really go through: a step may have fewer than a micro-batch."""
        share = self.ranks.largest_share(self.spec.batch_size)
        return min(self.numerics.micro_batch, share)

    def _step(self, step: int) -> None:
        """One optimiser update over `batch_size` rows."""
        began = time.perf_counter()
        self._seed_the_others(step)
        rows = self._rows_of(step)
        batches = batches_for(self.ranks, self.numerics, self.cache, self.packing, rows)
        counts = self.ranks.sum(torch.tensor([num_learned(batches)]))
        learned = int(counts[0])
        self.optimizer.zero_grad(set_to_none=True)
        losses = losses_of(self._learn(batches, learned), learned)
        norm = self._norm() if learned else 0.0
        if not math.isfinite(losses.loss + norm):
            bad = losses.loss if math.isfinite(norm) else norm
            self.ranks.first(
                lambda: halve_rate(self.folder, self.events, self.numerics, step, bad)
            )
        rate = self._rate_of(step)
        if learned:
            set_rate(self.optimizer, rate)
            self.optimizer.step()
        self.learned_loss = losses.learned_loss
        num_tokens = self._num_tokens(rows)
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

    def _learn(self, batches: list[MicroBatch], learned: int) -> Sums | None:
        """Add up the step's gradients; returns its sums over all processes."""
        total = None
        for batch in batches:
            with autocast(self.numerics, self.device):
                sums = self.learner(partial(run_sums, batch=batch.to(self.device)))
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

    def _rows_of(self, step: int) -> list[int]:
        epoch, within = divmod(step - 1, self.steps_per_epoch)
        order = row_order(self.packing.num_rows, self.spec.seed, epoch)
        first = within * self.spec.batch_size
        rows: list[int] = order[first : first + self.spec.batch_size].tolist()
        return rows

    def _num_tokens(self, rows: list[int]) -> int:
        return sum(length for row in rows for *_, length in self.packing.row(row))

    def _norm(self) -> float:
        """The norm of all gradients together, which are clipped by it."""
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.clip)
        return float(whole(norm))

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
        """Do what people want by now; True: the job, or this start of it, is over."""
        wish, requests = self.ranks.first(self._wish)
        if wish in {"stop", "snapshot"} and self.step:
            self.watch.snapshot(self.step, self.learned_loss, requests)
        if wish in {"pause", "leave"}:
            self._checkpoint()
        if wish == "stop":
            self.ranks.first(lambda: self._end("cancelled"))
        if wish == "pause":
            self.ranks.first(self._pause)
        return wish in {"stop", "pause", "leave"}

    def _wish(self) -> tuple[Wish, int]:
        """By control.json and signals; with the snapshot requests to be met."""
        control = self.folder.read_control()
        # Until it has repeated what is on record, a resumed job would stop short of it.
        caught_up = self.step >= self.events.last_step
        if control.want == "stop" and caught_up:
            return "stop", 0
        if control.want == "pause":
            return "pause", 0
        # A job to be stopped leaves once it has caught up, with its last snapshot.
        if self.told_to_leave.is_set() and control.want != "stop":
            return "leave", 0
        asked = control.snapshot_request > self.events.snapshot_requests
        if asked and self.step and caught_up:
            return "snapshot", control.snapshot_request
        return "go on", 0

    def _pause(self) -> None:
        self.events.write("status", status="paused", message="")
        self.events.sync()

    # ----- going on later

    def _resume(self) -> None:
        step = self.ranks.first(lambda: latest_checkpoint(self.folder.checkpoint))
        if step is not None:
            checkpoint = self.folder.checkpoint / str(step)
            load_checkpoint(checkpoint, self.model, self.optimizer)
            self.step = step

    def _checkpoint_if_time(self) -> None:
        if self.ranks.first(lambda: time.monotonic() < self.checkpoint_at):
            return
        began = time.monotonic()
        self._checkpoint()
        cost = time.monotonic() - began
        pause = max(self.spec.checkpoint_seconds, cost / CHECKPOINT_SHARE)
        self.checkpoint_at = time.monotonic() + pause

    def _checkpoint(self) -> None:
        if not self.step or not self.ranks.first(self._has_to_save):
            return
        files = checkpoint_files(self.model, self.optimizer)
        if self.ranks.is_first:
            save_checkpoint(self.folder.checkpoint, self.step, files)
        else:
            gather(files)

    def _has_to_save(self) -> bool:
        """False when the checkpoint is there already."""
        if (self.folder.checkpoint / str(self.step)).exists():
            return False
        trained = sum(p.numel() for p in trained_parameters(self.model).values())
        check_disk(self.folder.path, trained * CHECKPOINT_BYTES, "checkpoint")
        self.events.sync()
        return True

    def _say_hello(self) -> None:
        """Status and a log line. A job that went on after a death has both already."""
        if self.events.seq == 0:
            facts = self.cache.facts
            self.events.write("status", status="running", message="")
            self.events.write(
                "log",
                level="info",
                micro_batch=self.numerics.micro_batch,
                processes=self.numerics.processes,
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
        self._say_if_shared_anew()
        self._say_if_eased()

    def _say_if_shared_anew(self) -> None:
        """Another number of processes than at the last start."""
        processes = self.numerics.processes
        if self.events.processes in {None, processes}:
            return
        self.events.write(
            "autopilot",
            step=self.step,
            processes=processes,
            message=(
                f"From here on the number of processes is {processes} instead of "
                f"{self.events.processes}. A step learns from the same rows, so only "
                "the rounding of its losses differs."
            ),
        )

    def _ease(self) -> None:
        """Meet the note that one of several processes left when its memory was full."""
        note = self.folder.read_full()
        if note is None:
            return
        try:
            if self.numerics.micro_batch >= note.rows:
                halve_micro_batch(
                    self.folder, self.events, self.numerics, note.step, note.rows
                )
        finally:
            self.folder.full.unlink()

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


def run_sums(model: nn.Module, batch: MicroBatch) -> Sums | None:
    return sums_of(model, batch)


def memory_bytes() -> int:
    """Memory in use: of the device if it has its own, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
