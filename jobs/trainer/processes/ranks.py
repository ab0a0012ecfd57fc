"""[torch] The processes of one job: who this one is, and what they tell each other.

Process 0 alone looks at clocks, files and signals, writes all files and decides; the
others hear what it decided, so that they never part. A job of one process is the same
code without a process group.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from jobs.trainer.compute.objective import Sums

T = TypeVar("T")

# A process that is gone is noticed by whoever started it, so nobody need hurry: a
# large model's snapshot and its completions take minutes.
PATIENCE = timedelta(days=1)
# Room for one decision as JSON: sent at one go, without its length before it.
DECISION_BYTES = 2048
# Gradients are summed in pieces of this many numbers.
BUCKET_NUMBERS = 16_000_000


class StartAgain(Exception):
    """Every process loads the last checkpoint anew, with other numerics."""


class FirstFailed(Exception):
    """Process 0 ended the job, and has said why."""


class Ranks:
    """This process among those of its job."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.device = torch.device("cpu")
        if torch.cuda.is_available():
            local = int(os.environ.get("LOCAL_RANK", rank))
            self.device = torch.device("cuda", local if size > 1 else 0)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def connect(self, store: dist.Store | None = None) -> None:
        """Meet the others; without a store at MASTER_ADDR, as torchrun has it."""
        if self.size == 1:
            return
        backend = "gloo"
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            backend = "cpu:gloo,cuda:nccl"
        dist.init_process_group(
            backend, store=store, rank=self.rank, world_size=self.size, timeout=PATIENCE
        )

    # ----- what they tell each other

    def first(self, decide: Callable[[], T]) -> T:
        """What process 0 finds, in all of them; only there it is called.

        When it raises, the others raise StartAgain too or else FirstFailed.
        """
        if self.size == 1:
            return decide()
        if not self.is_first:
            return self._heard()
        try:
            found = decide()
        except BaseException as error:
            again = isinstance(error, StartAgain)
            self._tell({"raised": "again" if again else "failed"})
            raise
        self._tell({"found": found})
        return found

    def _tell(self, decision: dict[str, Any]) -> None:
        text = json.dumps(decision).encode()
        message = torch.tensor(list(text.ljust(DECISION_BYTES)), dtype=torch.uint8)
        if len(message) > DECISION_BYTES:
            raise ValueError(f"a decision of {len(text)} bytes")
        dist.broadcast(message, src=0)

    def _heard(self) -> Any:
        message = torch.empty(DECISION_BYTES, dtype=torch.uint8)
        dist.broadcast(message, src=0)
        decision = json.loads(bytes(message.tolist()))
        if "found" in decision:
            return decision["found"]
        raise StartAgain if decision["raised"] == "again" else FirstFailed

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """Sums over all processes."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def sum_losses(self, sums: Sums | None) -> Sums | None:
        """Over all processes, of which some may have learned nothing."""
        if self.size == 1:
            return sums
        names = [field.name for field in fields(Sums)]
        mine = [0.0 if sums is None else float(getattr(sums, name)) for name in names]
        return Sums(*self.sum(torch.tensor(mine, dtype=torch.float64)))

    def in_turn(self, work: Callable[[], T]) -> T:
        """Each does it while the others wait."""
        for rank in range(self.size):
            if rank == self.rank:
                done = work()
            self.sum(torch.zeros(1))
        return done

    # ----- what they share

    def share(self, rows: list[int]) -> list[int]:
        """This process's part of a step's rows: those in a line, maybe none.

        The first processes have one row more where it cannot be even.
        """
        begin, end = (self._border(len(rows), self.rank + n) for n in (0, 1))
        return rows[begin:end]

    def largest_share(self, num_rows: int) -> int:
        return -(-num_rows // self.size)

    def _border(self, num_rows: int, rank: int) -> int:
        return -(-num_rows * rank // self.size)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Every gradient becomes its sum over all processes.

        By hand and after the last micro-batch, where DistributedDataParallel hangs or
        errs: a process without a learned token makes no backward pass, one that runs
        out of memory leaves in the midst of it. None stays None where all have it.
        """
        if self.size == 1:
            return
        parameters = list(parameters)
        has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
        trained = [p for p, n in zip(parameters, self.sum(has), strict=True) if n]
        for bucket in _buckets(trained):
            self._sum_bucket(bucket)

    def _sum_bucket(self, parameters: list[torch.nn.Parameter]) -> None:
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if len(gradients) == 1:
            # Such as the embeddings, of which a copy is large.
            self.sum(gradients[0])
            return
        flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(
    parameters: list[torch.nn.Parameter],
) -> Iterable[list[torch.nn.Parameter]]:
    """In order, about BUCKET_NUMBERS numbers each."""
    bucket: list[torch.nn.Parameter] = []
    room = BUCKET_NUMBERS
    for parameter in parameters:
        if bucket and parameter.numel() > room:
            yield bucket
            bucket, room = [], BUCKET_NUMBERS
        bucket.append(parameter)
        room -= parameter.numel()
    if bucket:
        yield bucket
