"""[contract] Reads and writes events.jsonl: what a trainer did, one JSON line an event.

Only the trainer writes, and it never waits for a reader. A reader reads up to the last
line end, so it ignores a line that is still being written.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

Event = dict[str, Any]
Identity = tuple[Any, ...]

# The types of events that a job makes again when it resumes from an earlier checkpoint,
# and the keys that tell two events of a type apart.
REPEATED = {
    "step": ("step",),
    "validation": ("step",),
    "completion": ("step", "prompt_index", "index"),
    "snapshot": ("step",),
}


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Returns the events from `offset` on, and the offset after the last whole line.

    Offsets are in bytes.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            block = file.read()
    except FileNotFoundError:
        return [], offset
    end = block.rfind(b"\n") + 1
    lines = block[: max(0, end - 1)].split(b"\n") if end else []
    return [orjson.loads(line) for line in lines], offset + end


def last_status(events: list[Event]) -> str | None:
    """Returns the status of the last status event, or None without one."""
    statuses = [event["status"] for event in events if event["type"] == "status"]
    return statuses[-1] if statuses else None


class EventWriter:
    """Appends events, and leaves out those that a resumed job repeats.

    `seq` counts 1, 2, 3 … without a gap over all starts of the job. Opening the file
    cuts off a last line that is half written.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.now = now
        events, end = read_events(path)
        self.seq = 0
        self.recorded: set[Identity] = set()
        self.last_status: str | None = None
        # The last step on record. A resumed job repeats the steps up to this one.
        self.last_step = 0
        self.last_learned_loss: float | None = None
        # How many snapshot requests are met; see Control.snapshot_request.
        self.snapshot_requests = 0
        # The lowest validation loss of the snapshots, which the best one has.
        self.best_validation_loss: float | None = None
        # The validation loss of each snapshot, by its step.
        self.snapshot_losses: dict[int, float] = {}
        # These are the fields of Numerics that stand in events.
        self.micro_batch: int | None = None
        self.processes: int | None = None
        self.checkpointing = False
        for event in events:
            self._note(event)
        self.file = path.open("ab", buffering=0)
        if self.file.tell() > end:
            self.file.truncate(end)

    def write(self, type_: str, **data: Any) -> bool:
        """Appends one event; returns False if it had been written before."""
        if identity({"type": type_, **data}) in self.recorded:
            return False
        time_ = round(self.now(), 3)
        event = {"seq": self.seq + 1, "time": time_, "type": type_, **data}
        self._append(orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        self._note(event)
        return True

    def _append(self, line: bytes) -> None:
        """Appends the whole line, or nothing of it when the disk is full."""
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
        """Returns whether the file has this event."""
        return identity({"type": type_, **data}) in self.recorded

    def sync(self) -> None:
        """Waits until all events are on the disk. A checkpoint must not come before."""
        os.fsync(self.file.fileno())


def identity(event: Event) -> Identity | None:
    """Returns what an event has in common with its repeats.

    Returns None for a type of event that is never repeated.
    """
    keys = REPEATED.get(event["type"])
    if keys is None:
        return None
    return (event["type"], *(event[key] for key in keys))
