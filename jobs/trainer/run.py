"""[torch] A job from start to end: the optimiser steps and all that comes with them."""

import math
import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import torch
from torch import nn

from jobs.trainer.batches import MicroBatch, micro_batches
from jobs.trainer.checkpoint import (
    Progress,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from jobs.trainer.encoding import end_of_text_id, load_tokenizer
from jobs.trainer.events import EventWriter
from jobs.trainer.model import (
    ModelError,
    add_lora,
    is_adapted,
    load_model,
    merge_adapter,
)
from jobs.trainer.objective import Losses, count_learned, losses_of, sums_of
from jobs.trainer.optimizer import make_optimizer, rate_at, set_rate
from jobs.trainer.packing import pack, row_order
from jobs.trainer.plan import is_due
from jobs.trainer.runfolder import Numerics, RunFolder
from jobs.trainer.snapshot import save_snapshot
from jobs.trainer.spec import DataSource, Spec, SpecError
from jobs.trainer.token_cache import TokenCache, build_token_cache
from jobs.trainer.watch import validation_losses, write_completions

# A checkpoint may take at most this share of the time.
CHECKPOINT_SHARE = 1 / 20
# Validation over more rows than this says nothing new and costs training time.
MAX_VALIDATION_ROWS = 64
# Models above this are trained in bfloat16 where the processor multiplies it quickly.
SMALL_MODEL_PARAMETERS = 50_000_000


class NonFiniteLoss(RuntimeError):
    """The loss is no number any more. Its message is for people."""


def run(path: Path) -> int:
    """Train the job of a run folder to its end, or go on with it.

    Returns the exit code: 0 when the job ended as people wanted, paused included.
    """
    folder = RunFolder(path)
    events = EventWriter(folder.events)
    if events.last_status in {"succeeded", "failed", "cancelled"}:
        return 0
    try:
        Trainer(folder, events).train()
    except (SpecError, ModelError, NonFiniteLoss) as error:
        events.write("status", status="failed", message=str(error))
        return 1
    return 0


class Trainer:
    """Everything a job holds in memory. `train` is the story."""

    def __init__(self, folder: RunFolder, events: EventWriter) -> None:
        self.folder = folder
        self.events = events
        self.spec = Spec.load(folder.spec)
        self.asked_to_leave = False
        signal.signal(signal.SIGTERM, self._leave)

        # ----- data
        spec = self.spec
        self.cache = _token_cache(spec.train, spec)
        if not self.cache.facts.learned_targets:
            raise SpecError(
                "Every loss weight in the dataset is 0, so there is nothing to learn. "
                "Give the parts to be learned a weight above 0 and start a new job."
            )
        self.packing = pack(self.cache.lengths, spec.max_tokens, spec.seed)
        self.steps_per_epoch = math.ceil(self.packing.num_rows / spec.batch_size)
        self.total_steps = self.steps_per_epoch * spec.epochs

        # ----- model
        self.numerics = self._numerics()
        torch.set_num_threads(self.numerics.threads)
        torch.manual_seed(spec.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = _model_to_train(spec).to(self.device)
        self.model.train()
        self.optimizer = make_optimizer(self.model, spec.weight_decay)
        self.tokenizer = load_tokenizer(spec.model.path)
        self.end_id = end_of_text_id(spec.model.path)
        self.validation = self._validation_batches()

        # ----- where the job stands
        self.progress = Progress()
        self.validated: tuple[int, Losses] | None = None
        self.last_losses: Losses | None = None
        self.checkpoint_at = time.monotonic() + spec.checkpoint_seconds

    def train(self) -> None:
        """Step by step until the last, or until people want otherwise."""
        self._resume()
        self._say_hello()
        while self.progress.step < self.total_steps:
            if self._is_to_end_now():
                return
            if self.progress.step == 0:
                self._watch(0)
            self._step(self.progress.step + 1)
            self.progress.step += 1
            self._watch(self.progress.step)
            self._checkpoint_if_time()
        self.events.write("status", status="succeeded", message="")
        self.events.sync()

    # ----- one step

    def _step(self, step: int) -> None:
        """One optimiser update over `batch_size` rows."""
        began = time.perf_counter()
        batches = self._batches_of(step)
        num_learned = count_learned(batches)
        total = None
        self.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            with self._autocast():
                sums = sums_of(self.model, batch.to(self.device))
            if sums is None:
                continue
            # Divided by the whole step's N, so that gradients simply add up.
            (sums.weighted / num_learned).backward()
            total = sums.detach() if total is None else total + sums.detach()
        losses = losses_of(total, num_learned)
        if not math.isfinite(losses.learned_loss):
            raise NonFiniteLoss(
                f"The loss became {losses.learned_loss} at step {step}, so the job "
                "stopped before it could harm the model. Start again from the last "
                "snapshot with a smaller learning-rate scale."
            )
        rate = rate_at(
            step,
            self.total_steps,
            peak=self.spec.learning_rate,
            warmup=self.spec.warmup,
            schedule=self.spec.schedule,
        )
        norm = self._update(rate) if total is not None else 0.0
        self.last_losses = losses
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

    def _update(self, rate: float) -> float:
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.clip)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        return float(norm)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type,
            dtype=torch.bfloat16,
            enabled=self.numerics.dtype == "bfloat16",
        )

    # ----- what people watch

    def _watch(self, step: int) -> None:
        """Validation, completions and the snapshot that are due after a step."""
        spec = self.spec
        every = spec.validation_every or spec.completions_every or spec.snapshots_every
        snapshot_due = step > 0 and is_due(step, self.total_steps, spec.snapshots_every)
        if snapshot_due or step == 0 or is_due(step, self.total_steps, every):
            self._validate(step)
        if spec.completions_every and (
            step == 0 or is_due(step, self.total_steps, spec.completions_every)
        ):
            write_completions(
                self.events, self.model, self.tokenizer, self.end_id, spec, step
            )
        if snapshot_due:
            self._snapshot(step)

    def _validate(self, step: int) -> None:
        if not self.validation:
            return
        with self._autocast():
            losses = validation_losses(self.model, self.validation)
        self.validated = (step, losses)
        self.events.write(
            "validation",
            step=step,
            loss=losses.loss,
            learned_loss=losses.learned_loss,
            accuracy=losses.accuracy,
        )

    def _snapshot(self, step: int) -> None:
        """Save the weights for good; the best so far by validation is marked."""
        if self.validation and (self.validated is None or self.validated[0] != step):
            self._validate(step)
        validation_loss = self.validated[1].loss if self.validated else None
        best = self.progress.best_validation_loss
        is_best = validation_loss is not None and (
            best is None or validation_loss < best
        )
        if is_best:
            self.progress.best_validation_loss = validation_loss
        learned_loss = self.last_losses.learned_loss if self.last_losses else None
        facts = save_snapshot(
            self.folder.snapshots,
            self.model,
            self.spec,
            step,
            learned_loss=learned_loss,
            validation_loss=validation_loss,
            best=is_best,
        )
        self.events.write(
            "snapshot",
            step=step,
            id=facts["id"],
            path=f"snapshots/{step}",
            sha256=facts["sha256"],
            num_bytes=facts["num_bytes"],
            best=is_best,
            learned_loss=learned_loss,
            validation_loss=validation_loss,
            requests=self.progress.snapshot_requests,
        )

    # ----- what people want

    def _is_to_end_now(self) -> bool:
        """Look at control.json: meet a request; when told to go, leave all in order."""
        control = self.folder.read_control()
        if self.asked_to_leave:
            self._checkpoint()
            return True
        if control.want == "pause":
            self._checkpoint()
            self.events.write("status", status="paused", message="")
            self.events.sync()
            return True
        if control.want == "stop":
            if self.progress.step:
                self._snapshot(self.progress.step)
            self.events.write("status", status="cancelled", message="")
            self.events.sync()
            return True
        asked = control.snapshot_request > self.progress.snapshot_requests
        if asked and self.progress.step:
            self.progress.snapshot_requests = control.snapshot_request
            self._snapshot(self.progress.step)
        return False

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self.asked_to_leave = True

    # ----- going on later

    def _resume(self) -> None:
        checkpoint = latest_checkpoint(self.folder.checkpoint)
        if checkpoint is not None:
            self.progress = load_checkpoint(checkpoint, self.model, self.optimizer)
        # A request met before the end came is not met again at another step.
        met = [e["requests"] for e in self.events.history if e["type"] == "snapshot"]
        self.progress.snapshot_requests = max([self.progress.snapshot_requests, *met])

    def _checkpoint_if_time(self) -> None:
        if time.monotonic() < self.checkpoint_at:
            return
        began = time.monotonic()
        self._checkpoint()
        cost = time.monotonic() - began
        pause = max(self.spec.checkpoint_seconds, cost / CHECKPOINT_SHARE)
        self.checkpoint_at = time.monotonic() + pause

    def _checkpoint(self) -> None:
        if not self.progress.step:
            return
        self.events.sync()
        save_checkpoint(
            self.folder.checkpoint, self.model, self.optimizer, self.progress
        )

    def _say_hello(self) -> None:
        """Status and a log line. A job that went on after a death has both already."""
        if self.events.seq == 0:
            facts = self.cache.facts
            self.events.write("status", status="running", message="")
            self.events.write(
                "log",
                level="info",
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
            message=f"Goes on from the checkpoint of step {self.progress.step:,}",
        )

    # ----- beginnings

    def _numerics(self) -> Numerics:
        """Those of the first start; a resume must round the same way."""
        if (numerics := self.folder.read_numerics()) is not None:
            return numerics
        numerics = Numerics(
            threads=self.spec.threads or os.cpu_count() or 1,
            dtype="bfloat16" if torch.cuda.is_available() else "float32",
            compile=False,
            micro_batch=max(1, min(self.spec.batch_size, 8192 // self.spec.max_tokens)),
        )
        self.folder.write_numerics(numerics)
        return numerics

    def _validation_batches(self) -> list[MicroBatch]:
        """The same rows every time: the first of a packing from the job's seed."""
        spec = self.spec
        if spec.validation is None:
            return []
        cache = _token_cache(spec.validation, spec)
        packing = pack(cache.lengths, spec.max_tokens, spec.seed)
        order = row_order(packing.num_rows, spec.seed, epoch=0)
        rows = order[:MAX_VALIDATION_ROWS].tolist()
        return [
            batch.to(self.device)
            for batch in micro_batches(cache, packing, rows, self.numerics.micro_batch)
        ]


def _token_cache(source: DataSource, spec: Spec) -> TokenCache:
    return build_token_cache(
        Path(source.examples), Path(spec.model.path), Path(source.tokens)
    )


def _model_to_train(spec: Spec) -> nn.Module:
    """Full: all weights, with an adapter merged in. LoRA: an adapter, old or new."""
    wants_lora = spec.method == "lora"
    model = load_model(spec.model, trainable_adapter=wants_lora)
    if wants_lora:
        return model if is_adapted(model) else add_lora(model, spec.lora)
    return merge_adapter(model) if is_adapted(model) else model


def memory_bytes() -> int:
    """Memory in use: of the device if it has its own, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
