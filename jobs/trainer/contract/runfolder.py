"""[contract] The run folder: the files of one job, the only door to its trainer."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Want = Literal["run", "pause", "stop"]

# In the environment of a trainer: the open lock that its launcher passed on.
LOCK_FD = "FINETUNE_LOCK_FD"

# Tokens that go through the model at once, unless one row has more.
MICRO_BATCH_TOKENS = 8192
# Watched prompts that are answered at once.
ANSWERS_AT_ONCE = 64
# On a full disk: room for a few events.
RESERVE_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Control:
    """What people want of the trainer. It looks at every step."""

    want: Want = "run"
    # Counts the requests so far; the trainer compares it with how many it has met.
    snapshot_request: int = 0


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """What decides the rounding of a run. Chosen at the first start; a resume obeys."""

    threads: int
    dtype: Literal["float32", "bfloat16"]
    compile: bool
    # Rows that go through the model at once.
    micro_batch: int
    # Share of the learning rate, lowered when the loss became no number.
    rate_share: float = 1.0
    # How many share a step's rows; `threads` are those of one.
    processes: int = 1
    # Whether each of them keeps a part of the weights only.
    sharded: bool = False
    # Whether layers compute what the backward pass needs a second time, instead of
    # keeping it.
    checkpointing: bool = False
    # Completions that are made together.
    answers_at_once: int = ANSWERS_AT_ONCE


@dataclass(frozen=True, kw_only=True)
class MemoryFull:
    """A process ran out of memory: the next start is to need less."""

    step: int
    # That it had at once.
    rows: int


class RunFolder:
    """Paths of a run folder, and its small files that change."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.spec = self.path / "spec.json"
        self.events = self.path / "events.jsonl"
        self.control = self.path / "control.json"
        self.numerics = self.path / "numerics.json"
        self.checkpoint = self.path / "checkpoint"
        self.snapshots = self.path / "snapshots"
        self.lock = self.path / "trainer.lock"
        self.log = self.path / "trainer.log"
        # Left by a process that ran out of memory: see MemoryFull.
        self.full = self.path / "full.json"
        # Taken from the disk in time, for a trainer's last words when it is full.
        self.reserve = self.path / "reserve"

    def read_control(self) -> Control:
        """Missing means: run. So does what cannot be read, as after an edit by hand:
        the site replaces the file as soon as people want something else.
        """
        try:
            control = Control(**json.loads(self.control.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return Control()
        is_known = control.want in get_args(Want)
        return control if is_known and is_whole(control.snapshot_request) else Control()

    def write_control(self, control: Control) -> None:
        write_json(self.control, asdict(control))

    def read_numerics(self) -> Numerics | None:
        try:
            return Numerics(**json.loads(self.numerics.read_bytes()))
        except FileNotFoundError:
            return None

    def write_numerics(self, numerics: Numerics) -> None:
        write_json(self.numerics, asdict(numerics))

    def read_full(self) -> MemoryFull | None:
        try:
            return MemoryFull(**json.loads(self.full.read_bytes()))
        except FileNotFoundError:
            return None

    def write_full(self, full: MemoryFull) -> None:
        write_json(self.full, asdict(full))

    def take_reserve(self) -> None:
        # Zeros take no room on a disk that packs its files.
        self.reserve.write_bytes(os.urandom(RESERVE_BYTES))

    def give_reserve(self) -> None:
        self.reserve.unlink(missing_ok=True)

    def take_lock(self) -> int | None:
        """An open descriptor that holds the lock, or None while a trainer lives.

        The lock belongs to the open file: passed on to a child it stays held until the
        last copy of the descriptor is closed, however the child ends.
        """
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def lock_is_free(self) -> bool:
        descriptor = self.take_lock()
        if descriptor is None:
            return False
        os.close(descriptor)
        return True


def is_whole(value: object) -> bool:
    """For JSON, where true and false are no numbers."""
    return isinstance(value, int) and not isinstance(value, bool)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a small file so that a reader sees the old one or the new one, whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def complete_folder(final: Path) -> Iterator[Path]:
    """A draft to fill, which gets the name `final` when all in it is on the disk.

    A folder of that name is always complete; a draft that failed is removed.
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
    """What killed processes had not completed, of one name or of all."""
    for path in folder.glob(f".{name}.*"):
        shutil.rmtree(path, ignore_errors=True)


def sync_path(path: Path) -> None:
    """Make a file's content or a folder's names durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
