"""[torch] A job from start to end: the optimiser steps and all that comes with them."""

import gc
import logging
import math
import os
import resource
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any

import torch

from jobs.trainer.autopilot import (
    StartAgain,
    Trouble,
    disk_words,
    halve_rate,
    is_disk_full,
    is_out_of_memory,
    meet_memory_note,
)
from jobs.trainer.checkpoint_times import Checkpoints
from jobs.trainer.events import EventWriter, last_status, read_events
from jobs.trainer.feed import Feed
from jobs.trainer.greeting import say_hello
from jobs.trainer.launch import FAREWELL_SECONDS, is_first, join, start_over
from jobs.trainer.learning import Learning
from jobs.trainer.model import ModelError, is_adapted, kept_adapter_words
from jobs.trainer.numerics import choose_numerics
from jobs.trainer.prepare import learner_of, open_data
from jobs.trainer.ranks import FirstFailed, Ranks
from jobs.trainer.runfolder import LOCK_FD, MemoryFull, Numerics, RunFolder
from jobs.trainer.spec import Spec, SpecError
from jobs.trainer.watch import Watch
from jobs.trainer.wishes import read_wish

FINAL = {"succeeded", "failed", "cancelled"}

logger = logging.getLogger(__name__)


def run(path: Path) -> int:
    """Train the job of a run folder to its end, or go on with it.

    Returns the exit code: 0 when the job ended as people wanted, paused included. Of
    several processes each one runs it, and only the first one writes.
    """
    folder = RunFolder(path)
    if not is_first():
        return _run_along(folder)
    if LOCK_FD in os.environ:
        # Whoever started this process holds it, through this process too.
        return _run_locked(folder)
    lock = folder.take_lock()
    if lock is None:
        logger.error("Another trainer is at work in %s", path)
        return 1
    try:
        return _run_locked(folder)
    finally:
        os.close(lock)


def _run_locked(folder: RunFolder) -> int:
    events = EventWriter(folder.events)
    told_to_leave = Event()
    signal.signal(signal.SIGTERM, lambda *_: told_to_leave.set())
    if events.last_status in FINAL:
        # It may have been killed in between.
        remove_checkpoint(folder)
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
            pass
        except RuntimeError:
            # Failing for want of another process. Who started them knows why it is
            # gone, and ends this one or starts it over in a moment.
            if ranks.size > 1:
                time.sleep(FAREWELL_SECONDS)
            raise
        # What the last try held, cycles hold on to, and memory may not hold it twice.
        gc.collect()


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
        spec = self.spec = Spec.load(folder.spec)

        # ----- data
        self.cache, self.packing = open_data(spec.train, spec, ranks)
        if not self.cache.facts.learned_targets:
            raise SpecError(
                "Every loss weight in the dataset is 0, so there is nothing to learn. "
                "Give the parts to be learned a weight above 0 and start a new job."
            )

        # ----- how it is computed
        self.numerics = Numerics(**ranks.first(self._choose_numerics))
        ranks.first(lambda: meet_memory_note(folder, events, self.numerics))
        torch.set_num_threads(self.numerics.threads)
        torch.manual_seed(spec.seed)
        on_cuda = ranks.device.type == "cuda"
        self.feed = Feed(
            spec, self.numerics, ranks, self.cache, self.packing, ahead=on_cuda
        )
        self.total_steps = self.feed.total_steps

        # ----- model
        learner = learner_of(spec, self.numerics, ranks)
        learner.model.train()
        self.learning = Learning(spec, self.numerics, ranks, learner, self.total_steps)
        self.watch = Watch(
            folder, events, spec, self.numerics, learner, ranks, self.total_steps
        )

        # ----- where the job stands
        self.checkpoints = Checkpoints(
            folder,
            events,
            ranks,
            learner.model,
            self.learning.optimizer,
            spec.checkpoint_seconds,
        )
        # Steps done.
        self.step = 0
        # Of the step done last by this process.
        self.learned_loss: float | None = None

    def train(self) -> None:
        """Step by step until the last, or until people want otherwise."""
        self.step = self.checkpoints.resume()
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
            self.checkpoints.write_if_time(self.step)
        self.ranks.first(lambda: self._end("succeeded"))

    def _choose_numerics(self) -> dict[str, Any]:
        targets = self.cache.facts.targets
        return asdict(choose_numerics(self.folder, self.spec, targets, self.ranks.size))

    def _say_hello(self) -> None:
        facts, model = self.cache.facts, self.learning.model
        note = kept_adapter_words(model, self.spec.lora) if is_adapted(model) else ""
        say_hello(self.events, self.numerics, facts, self.packing, self.step, note)

    # ----- one step

    def _step_safely(self, step: int) -> None:
        try:
            self._step(step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Other processes wait for this one in the midst of the step. And a process
            # that filled its memory has it in pieces, of little use for a next try.
            rows = self._rows_at_once()
            self.folder.write_full(MemoryFull(step=step, rows=rows))
            start_over()

    def _rows_at_once(self) -> int:
        """How many really go through: a step may have fewer than a micro-batch."""
        share = self.ranks.largest_share(self.spec.batch_size)
        return min(self.numerics.micro_batch, share)

    def _step(self, step: int) -> None:
        """One optimiser update over `batch_size` rows."""
        began = time.perf_counter()
        rows = self.feed.take(step)
        gradients = self.learning.gradients(step, rows)
        losses, norm = gradients.losses, gradients.norm
        if not math.isfinite(losses.loss + norm):
            bad = losses.loss if math.isfinite(norm) else norm
            self.ranks.first(
                lambda: halve_rate(self.folder, self.events, self.numerics, step, bad)
            )
        rate = self.learning.update(step, gradients)
        self.learned_loss = losses.learned_loss
        speed = rows.num_tokens / (time.perf_counter() - began)
        self.events.write(
            "step",
            step=step,
            loss=losses.loss,
            learned_loss=losses.learned_loss,
            accuracy=losses.accuracy,
            lr=rate,
            grad_norm=norm,
            tokens=rows.num_tokens,
            tokens_per_second=round(speed, 1),
            memory_bytes=memory_bytes(),
            epoch=self.feed.epochs(step),
        )

    # ----- what people want

    def _is_to_end_now(self) -> bool:
        """Do what people want by now; True: the job, or this start of it, is over."""
        wish, requests = self.ranks.first(
            lambda: read_wish(
                self.folder,
                self.events,
                self.step,
                told_to_leave=self.told_to_leave.is_set(),
            )
        )
        if wish in {"stop", "snapshot"} and self.step:
            self.watch.snapshot(self.step, self.learned_loss, requests)
        if wish in {"pause", "leave"}:
            self.checkpoints.write(self.step)
        if wish == "stop":
            self.ranks.first(lambda: self._end("cancelled"))
        if wish == "pause":
            self.ranks.first(self._pause)
        return wish in {"stop", "pause", "leave"}

    def _pause(self) -> None:
        self.events.write("status", status="paused", message="")
        self.events.sync()

    # ----- the end

    def _end_early(self) -> None:
        self._end("succeeded", self.watch.stall_words(self.step))

    def _end(self, status: str, message: str = "") -> None:
        """For good: nobody goes on from the checkpoint, which takes much room."""
        self.events.write("status", status=status, message=message)
        self.events.sync()
        remove_checkpoint(self.folder)


def remove_checkpoint(folder: RunFolder) -> None:
    shutil.rmtree(folder.checkpoint, ignore_errors=True)


def memory_bytes() -> int:
    """Memory in use: of the device if it has its own, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
