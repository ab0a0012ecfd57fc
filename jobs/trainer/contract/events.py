"""[contract] events.jsonl: what a trainer did, one JSON line an event.

Only the trainer writes; it never waits for a reader. Readers consume up to the last
line end, so a line being written does not exist yet.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

Event = dict[str, Any]
Identity = tuple[Any, ...]

# Events that a run makes again, the same, when it resumes from an earlier checkpoint,
# and what tells two of a type apart.
REPEATED = {
    "step": ("step",),
    "validation": ("step",),
    "completion": ("step", "prompt_index", "index"),
    "snapshot": ("step",),
}


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Events from `offset` on (bytes), and the offset behind the last whole line."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            block = file.read()
    except FileNotFoundError:
        return [], offset
    end = block.rfind(b"\n") + 1
    lines = block[:end].splitlines()
    return [orjson.loads(line) for line in lines], offset + end


def last_status(events: list[Event]) -> str | None:
    statuses = [event["status"] for event in events if event["type"] == "status"]
    return statuses[-1] if statuses else None


class EventWriter:
    """Appends events; what a resumed run repeats is left out.

    `seq` counts 1, 2, 3 … without a gap over all starts of the job. Opening cuts off a
    half-written last line.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.now = now
        events, end = read_events(path)
        self.seq = 0
        self.recorded: set[Identity] = set()
        self.last_status: str | None = None
        # The last step on record: up to it a resumed run repeats what stands here.
        self.last_step = 0
        self.last_learned_loss: float | None = None
        # Snapshot requests met so far; see Control.snapshot_request.
        self.snapshot_requests = 0
        # The lowest among the snapshots; the best one has it.
        self.best_validation_loss: float | None = None
        # Validation losses of the snapshots, by step.
        self.snapshot_losses: dict[int, float] = {}
        # What the events have of Numerics.
        self.micro_batch: int | None = None
        self.processes: int | None = None
        self.checkpointing = False
        for event in events:
            self._note(event)
        self.file = path.open("ab", buffering=0)
        if self.file.tell() > end:
            self.file.truncate(end)

    def write(self, type_: str, **data: Any) -> bool:
        """Append one event. False when it had been written before."""
        if identity({"type": type_, **data}) in self.recorded:
            return False
        time_ = round(self.now(), 3)
        event = {"seq": self.seq + 1, "time": time_, "type": type_, **data}
        self._append(orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        self._note(event)
        return True

    def _append(self, line: bytes) -> None:
        """The whole line, or nothing of it when the disk is full."""
        end = self.file.seek(0, os.SEEK_END)
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self.file.fileno(), rest) :]
        except OSError:
            self.file.truncate(end)
            raise

    def _note(self, event: Event) -> None:
        self.seq = event["seq"]
        if (key := identity(event)) is not None:
            self.recorded.add(key)
        if event["type"] == "step":
            self.last_step = event["step"]
            self.last_learned_loss = event.get("learned_loss")
        if event["type"] == "status":
            self.last_status = event["status"]
        self.snapshot_requests = max(self.snapshot_requests, event.get("requests", 0))
        self.micro_batch = event.get("micro_batch", self.micro_batch)
        self.processes = event.get("processes", self.processes)
        self.checkpointing = event.get("checkpointing", self.checkpointing)
        if event["type"] == "snapshot" and event.get("validation_loss") is not None:
            self.snapshot_losses[event["step"]] = event["validation_loss"]
        if event.get("best"):
            self.best_validation_loss = event["validation_loss"]

    def has(self, type_: str, **data: Any) -> bool:
        """Whether this event stands in the file."""
        return identity({"type": type_, **data}) in self.recorded

    def sync(self) -> None:
        """Make all events durable: before a checkpoint that stands on them."""
        os.fsync(self.file.fileno())


def identity(event: Event) -> Identity | None:
    """What a repeat of this event has in common with it; None: it is never repeated."""
    keys = REPEATED.get(event["type"])
    if keys is None:
        return None
    return (event["type"], *(event[key] for key in keys))
