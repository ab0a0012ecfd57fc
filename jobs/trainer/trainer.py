"""[torch] The story of a job's training: its steps, and what happens between them."""

import math
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any

import torch

from jobs.trainer.autopilot import (
    halve_rate,
    meet_memory_note,
)
from jobs.trainer.checkpoint_times import Checkpoints
from jobs.trainer.compute.model import is_adapted, kept_adapter_words
from jobs.trainer.compute.out_of_memory import is_out_of_memory
from jobs.trainer.contract.events import EventWriter
from jobs.trainer.contract.runfolder import MemoryFull, Numerics, RunFolder
from jobs.trainer.contract.spec import Spec
from jobs.trainer.contract.wishes import ENDING, Leave, Wish, read_wish
from jobs.trainer.endings import remove_checkpoint
from jobs.trainer.feed import Feed
from jobs.trainer.greeting import say_hello
from jobs.trainer.learning import Learning
from jobs.trainer.numerics import choose_numerics
from jobs.trainer.prepare import (
    learner_of,
    note_base,
    open_data,
    refuse_nothing_to_learn,
)
from jobs.trainer.processes.launch import start_over
from jobs.trainer.processes.ranks import Ranks
from jobs.trainer.watch import Watch


class Trainer:
    """Trains one job; the method `train` tells how.

    All processes of a job run the same code together. Some things only the first
    process may do: read the clock, files and signals, write files, decide. Such code is
    passed to `ranks.first(...)`.
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
        # The number of steps done, and the learned loss of the last of them.
        self.step = 0
        self.learned_loss: float | None = None

        self.cache, self.packing = open_data(
            spec.train, spec, ranks, self._leave_if_asked
        )
        self.facts = self.cache.facts_for(self.spec.max_tokens)
        refuse_nothing_to_learn(self.facts)
        self.base_sha256 = ranks.first(lambda: note_base(folder, spec))
        self.numerics = self._settle_numerics()
        self.feed = self._feed()
        self.total_steps = self.feed.total_steps
        self.learning = self._learning()
        self.watch = self._watch()
        self.checkpoints = self._checkpoints()

    def train(self) -> None:
        """Trains step by step until the last step, or until people want it to end."""
        self.step = self.checkpoints.resume()
        if self.step == self.events.last_step:
            self.learned_loss = self.events.last_learned_loss
        self.ranks.first(self._say_hello)
        while not self._is_over():
            with self._starting_over_when_full(self.step + 1):
                self._step(self.step + 1)
            self.step += 1

    def _is_over(self) -> bool:
        """Does what is due between two steps; returns True when this start is over.

        A job that goes on from a checkpoint begins here too, because the checkpoint may
        be older than the validation, completions or snapshot that follow its step.
        """
        with self._starting_over_when_full(self.step):
            while not self.watch.look(self.step, self.learned_loss):
                if self._is_to_end_now():
                    return True
            if self.watch.has_stalled(self.step):
                self.ranks.first(self._end_early)
                return True
            if self.step == self.total_steps:
                self.ranks.first(lambda: self._end("succeeded"))
                return True
            self.checkpoints.write_if_time(self.step)
            return self._is_to_end_now()

    def _say_hello(self) -> None:
        facts, model = self.facts, self.learning.model
        note = kept_adapter_words(model, self.spec.lora) if is_adapted(model) else ""
        say_hello(self.events, self.numerics, facts, self.packing, self.step, note)

    # ----- what a job holds in memory

    def _settle_numerics(self) -> Numerics:
        numerics = Numerics(**self.ranks.first(self._choose_numerics))
        self.ranks.first(lambda: meet_memory_note(self.folder, self.events, numerics))
        torch.set_num_threads(numerics.threads)
        torch.manual_seed(self.spec.seed)
        return numerics

    def _choose_numerics(self) -> dict[str, Any]:
        targets = self.facts.targets
        return asdict(choose_numerics(self.folder, self.spec, targets, self.ranks.size))

    def _feed(self) -> Feed:
        on_cuda = self.ranks.device.type == "cuda"
        return Feed(
            self.spec,
            self.numerics,
            self.ranks,
            self.cache,
            self.packing,
            ahead=on_cuda,
        )

    def _learning(self) -> Learning:
        learner = learner_of(self.spec, self.numerics, self.ranks)
        learner.model.train()
        return Learning(self.spec, self.numerics, self.ranks, learner, self.total_steps)

    def _watch(self) -> Watch:
        return Watch(
            self.folder,
            self.events,
            self.spec,
            self.numerics,
            self.learning.learner,
            self.ranks,
            self.total_steps,
            self.base_sha256,
            is_to_end=lambda: self._read_wish()[0] in ENDING,
            check_weights=self._check_weights,
            meanwhile=self._leave_if_asked,
        )

    def _checkpoints(self) -> Checkpoints:
        return Checkpoints(
            self.folder,
            self.events,
            self.ranks,
            self.learning.model,
            self.learning.optimizer,
            self.spec.checkpoint_seconds,
            self._check_weights,
        )

    # ----- one step

    @contextmanager
    def _starting_over_when_full(self, step: int) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Other processes wait for this one in the middle of the step. And the
            # memory of a process that filled it is too fragmented for another try.
            rows = self._rows_at_once()
            self.folder.write_full(MemoryFull(step=step, rows=rows))
            start_over()

    def _rows_at_once(self) -> int:
        """Returns how many rows go through the model at once.

        A step may have fewer rows than a micro-batch.
        """
        share = self.ranks.largest_share(self.spec.batch_size)
        return min(self.numerics.micro_batch, share)

    def _step(self, step: int) -> None:
        """Makes one optimiser update over `batch_size` rows."""
        began = time.perf_counter()
        rows = self.feed.take(step)
        gradients = self.learning.gradients(step, rows)
        losses, norm = gradients.losses, gradients.norm
        if not math.isfinite(losses.loss + norm):
            bad = losses.loss if math.isfinite(norm) else norm
            self._go_slower(step, f"The loss became {bad}")
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

    def _go_slower(self, step: int, what: str) -> None:
        self.ranks.first(
            lambda: halve_rate(self.folder, self.events, self.numerics, step, what)
        )

    def _check_weights(self) -> None:
        """Lets the job go slower if a weight is infinite or not a number.

        The last update may have broken the weights, and only the next loss would show
        it.
        """
        if self.learning.has_broken_weights():
            self._go_slower(self.step, "Weights became infinite or no numbers")

    # ----- what people want

    def _read_wish(self) -> tuple[Wish, int]:
        told = self.told_to_leave.is_set()
        return read_wish(self.folder, self.events, self.step, told_to_leave=told)

    def _leave_if_asked(self) -> None:
        """Raises Leave if people want the job to end, pause or leave.

        Long work before the first step calls it again and again.
        """
        wish, _ = self._read_wish()
        if wish in ENDING:
            raise Leave(wish)

    def _is_to_end_now(self) -> bool:
        """Does what people want now; returns True when this start is over."""
        wish, requests = self.ranks.first(self._read_wish)
        if wish in {"stop", "snapshot"} and self.step:
            self.watch.snapshot(self.step, self.learned_loss, requests)
        if wish in {"pause", "leave"}:
            self.checkpoints.write(self.step)
        if wish == "stop":
            self.ranks.first(lambda: self._end("cancelled"))
        if wish == "pause":
            self.ranks.first(self._pause)
        return wish in ENDING

    def _pause(self) -> None:
        self.events.write("status", status="paused", message="")
        self.events.sync()

    # ----- the end

    def _end_early(self) -> None:
        self._end("succeeded", self.watch.stall_words(self.step))

    def _end(self, status: str, message: str = "") -> None:
        """Ends the job for good, so its checkpoint, which takes much room, goes."""
        self.events.write("status", status=status, message=message)
        self.events.sync()
        remove_checkpoint(self.folder)


def memory_bytes() -> int:
    """Returns the bytes in use: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        return pages * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
