"""[contract] The run folder holds the files of one job: the only way to its trainer."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

Want = Literal["run", "pause", "stop"]

# The environment variable with the open lock that the launcher passed to its trainer.
LOCK_FD = "FINETUNE_LOCK_FD"

# So many tokens go through the model at once, unless one row has more.
MICRO_BATCH_TOKENS = 8192
# So many watched prompts are answered at once.
ANSWERS_AT_ONCE = 64
# The reserve makes room for a few events on a full disk.
RESERVE_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Control:
    """What people want the trainer to do. The trainer reads it after every step."""

    want: Want = "run"
    # The number of snapshot requests so far. The trainer compares it with those it met.
    snapshot_request: int = 0


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """Everything that decides how a job rounds.

    It is chosen at the first start, and a resumed job obeys it.
    """

    threads: int
    dtype: Literal["float32", "bfloat16"]
    compile: bool
    # The number of rows that go through the model at once.
    micro_batch: int
    # The share of the learning rate that is used. It is lowered when the loss was not
    # finite.
    rate_share: float = 1.0
    # How many processes share a step's rows. Each of them has `threads` threads.
    processes: int = 1
    # Whether each process keeps only a part of the weights.
    sharded: bool = False
    # Whether layers compute a second time what the backward pass needs, instead of
    # keeping it (gradient checkpointing).
    checkpointing: bool = False
    # How many completions are made together.
    answers_at_once: int = ANSWERS_AT_ONCE


@dataclass(frozen=True, kw_only=True)
class MemoryFull:
    """Notes that a process ran out of memory, so the next start must need less."""

    step: int
    # The number of rows that went through the model at once.
    rows: int


class RunFolder:
    """Knows the paths of a run folder, and reads and writes its small files."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.spec = self.path / "spec.json"
        self.events = self.path / "events.jsonl"
        self.control = self.path / "control.json"
        self.numerics = self.path / "numerics.json"
        # The sha256 of the weights that the job started from.
        self.base = self.path / "base.json"
        self.checkpoint = self.path / "checkpoint"
        self.snapshots = self.path / "snapshots"
        self.lock = self.path / "trainer.lock"
        self.log = self.path / "trainer.log"
        # A process that ran out of memory leaves this file; see MemoryFull.
        self.full = self.path / "full.json"
        # This file keeps room for the trainer's last events when the disk is full.
        self.reserve = self.path / "reserve"

    def read_control(self) -> Control:
        """Returns what people want; a missing or unreadable file means: run.

        After an edit by hand the file may be unreadable. The site replaces it as soon
        as people want something else.
        """
        try:
            control = Control(**json.loads(self.control.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return Control()
        is_known = control.want in get_args(Want)
        return control if is_known and is_whole(control.snapshot_request) else Control()

    def write_control(self, control: Control) -> None:
        """Writes what people want."""
        write_json(self.control, asdict(control))

    def read_numerics(self) -> Numerics | None:
        """Returns the numerics of the job, or None before its first start."""
        try:
            return Numerics(**json.loads(self.numerics.read_bytes()))
        except FileNotFoundError:
            return None

    def write_numerics(self, numerics: Numerics) -> None:
        """Writes the numerics that later starts obey."""
        write_json(self.numerics, asdict(numerics))

    def read_full(self) -> MemoryFull | None:
        """Returns the note of a process that ran out of memory, or None."""
        try:
            return MemoryFull(**json.loads(self.full.read_bytes()))
        except FileNotFoundError:
            return None

    def write_full(self, full: MemoryFull) -> None:
        """Leaves a note for the next start: this process ran out of memory."""
        write_json(self.full, asdict(full))

    def take_reserve(self) -> None:
        """Takes room on the disk for the trainer's last events."""
        # The bytes are random, because zeros take no room on a disk that compresses.
        self.reserve.write_bytes(os.urandom(RESERVE_BYTES))

    def give_reserve(self) -> None:
        """Frees the room that `take_reserve` took."""
        self.reserve.unlink(missing_ok=True)

    def take_lock(self) -> int | None:
        """Returns an open descriptor with the lock, or None while a trainer lives.

        The lock belongs to the open file. If the descriptor is passed on to a child,
        the lock is held until the last copy is closed, however the child ends.
        """
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def lock_is_free(self) -> bool:
        """Returns whether no trainer lives."""
        descriptor = self.take_lock()
        if descriptor is None:
            return False
        os.close(descriptor)
        return True


def is_whole(value: object) -> TypeGuard[int]:
    """Returns whether a JSON value is a whole number; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replaces a small file, so that a reader sees either the old or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def complete_folder(final: Path) -> Iterator[Path]:
    """Yields a draft folder, which gets the name `final` once all in it is on the disk.

    So a folder of that name is always complete. A draft that failed is removed.
    """
    draft = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        for path in draft.iterdir():
            sync_path(path)
        sync_path(draft)
        draft.rename(final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_path(final.parent)


def remove_drafts(folder: Path, name: str = "*") -> None:
    """Removes the drafts that killed processes left, of one name or of all names."""
    for path in folder.glob(f".{name}.*"):
        shutil.rmtree(path, ignore_errors=True)


def sync_path(path: Path) -> None:
    """Waits until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
