"""[torch] The processes of one job: which one this is, and what they tell each other.

Only process 0 reads clocks, files and signals, writes files and decides. The others get
its decisions, so that all of them do the same. A job of one process runs the same code
without a process group.
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

# How long a process waits for the others. The one that started them notices when one is
# gone, so the time can be long: the snapshot and completions of a large model take
# minutes.
PATIENCE = timedelta(days=1)
# The room for one decision as JSON. All messages have this length, so no message has to
# tell its length first.
DECISION_BYTES = 2048
# Gradients are summed in pieces of about this many numbers.
BUCKET_NUMBERS = 16_000_000


class StartAgain(Exception):
    """Makes every process load the last checkpoint again, with other numerics."""


class FirstFailed(Exception):
    """Tells the other processes that process 0 ended the job and has said why."""


class Ranks:
    """Knows this process's number, and exchanges values with the job's others."""

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
        """Connects with the others, through the store or else at MASTER_ADDR."""
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
        """Calls `decide` in process 0 only, and returns its result in all processes.

        The result must be a JSON value. When `decide` raises StartAgain, the others
        raise it too; for any other exception they raise FirstFailed.
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
        """Adds up a tensor over all processes, in place; returns it."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def sum_losses(self, sums: Sums | None) -> Sums | None:
        """Returns the sums over all processes; None stands for nothing learned."""
        if self.size == 1:
            return sums
        names = [field.name for field in fields(Sums)]
        mine = [0.0 if sums is None else float(getattr(sums, name)) for name in names]
        return Sums(*self.sum(torch.tensor(mine, dtype=torch.float64)))

    def in_turn(self, work: Callable[[], T]) -> T:
        """Does the work in one process after the other; returns this one's result."""
        for rank in range(self.size):
            if rank == self.rank:
                done = work()
            self.sum(torch.zeros(1))
        return done

    # ----- what they share

    def share(self, rows: list[int]) -> list[int]:
        """Returns this process's part of a step's rows: neighbours, or none at all.

        If the rows cannot be shared evenly, some processes have one row more.
        """
        begin, end = (self._border(len(rows), self.rank + n) for n in (0, 1))
        return rows[begin:end]

    def largest_share(self, num_rows: int) -> int:
        """Returns the most rows that a process gets when `num_rows` are shared."""
        return -(-num_rows // self.size)

    def _border(self, num_rows: int, rank: int) -> int:
        return -(-num_rows * rank // self.size)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replaces every gradient by its sum over all processes.

        It is called after the last micro-batch. DistributedDataParallel would hang or
        fail here: a process without a learned token makes no backward pass, and one
        that runs out of memory stops within it. A gradient that is None in all
        processes stays None.
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
            # A parameter such as the embeddings is summed in place: a copy is large.
            self.sum(gradients[0])
            return
        flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(
    parameters: list[torch.nn.Parameter],
) -> Iterable[list[torch.nn.Parameter]]:
    """Yields the parameters in order, in groups of about BUCKET_NUMBERS numbers."""
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
