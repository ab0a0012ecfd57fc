"""The two files of a version: `examples.jsonl` and `examples.idx`.

The index holds where each line starts, as little-endian 8-byte numbers, so that
example 1,000,000 is read as fast as example 1.
"""

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from jobs.trainer.contract.runfolder import sync_path
from jobs.trainer.text.examples import Segment, load_line

OFFSET = np.dtype("<u8")
LINE_FEED = ord("\n")
PART_MARK = ".part-"
# The claim on the import cannot be renewed while this waits for the disk. So many
# bytes take no longer than seconds on a slow disk.
SYNC_BYTES = 16 * 1024 * 1024


def index_path(examples_path: Path) -> Path:
    """Returns the path of the index that belongs to a file of examples."""
    return examples_path.with_suffix(".idx")


class ExamplesWriter:
    """Writes both files under names of its own and renames them when they are whole.

    If it is killed at any point, there is either no file under the real name or a
    complete one. The next writer removes what a killed one left.
    """

    def __init__(self, examples_path: Path) -> None:
        self.path = examples_path
        self.num_bytes = 0
        self._num_unsynced = 0
        self._sha256 = hashlib.sha256()
        for leftover in self.path.parent.glob(f"{self.path.stem}.*{PART_MARK}*"):
            leftover.unlink(missing_ok=True)
        mark = f"{PART_MARK}{secrets.token_hex(4)}"
        self._targets = [self.path, index_path(self.path)]
        self._parts = [path.with_name(path.name + mark) for path in self._targets]
        self._lines, self._index = (path.open("wb") for path in self._parts)

    def __enter__(self) -> "ExamplesWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._index.close()
        for path in self._parts:
            path.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        """The hash of all lines so far, in hexadecimal."""
        return self._sha256.hexdigest()

    def add(self, content: bytes) -> None:
        """Adds whole lines, each an example in the long form."""
        ends = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == LINE_FEED) + 1
        starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
        self._index.write((starts + self.num_bytes).astype(OFFSET).tobytes())
        self._lines.write(content)
        self._num_unsynced += len(content)
        if self._num_unsynced >= SYNC_BYTES:
            self._sync()
        self._sha256.update(content)
        self.num_bytes += len(content)

    def publish(self) -> None:
        """Puts both files on disk and then under their real names, the index last."""
        self._sync()
        for part, target in zip(self._parts, self._targets, strict=True):
            part.rename(target)
        sync_path(self.path.parent)

    def _sync(self) -> None:
        for file in (self._lines, self._index):
            file.flush()
            os.fsync(file.fileno())
        self._num_unsynced = 0


def read_examples(
    examples_path: Path, first: int, count: int
) -> Iterator[list[Segment]]:
    """Yields up to `count` examples from number `first` on, which counts from 0."""
    starts = open_index(examples_path)
    last = min(first + count, len(starts))
    if first >= last:
        return
    with examples_path.open("rb") as file:
        file.seek(int(starts[first]))
        for _ in range(first, last):
            yield load_line(file.readline())


def read_these(examples_path: Path, numbers: Iterable[int]) -> Iterator[list[Segment]]:
    """Yields the examples of these numbers, which count from 0, as far as they exist.

    The file is opened once, however many they are.
    """
    starts = open_index(examples_path)
    with examples_path.open("rb") as file:
        for number in numbers:
            if not 0 <= number < len(starts):
                return
            file.seek(int(starts[number]))
            yield load_line(file.readline())


def open_index(examples_path: Path) -> np.ndarray:
    """Returns where each line of the examples starts, in bytes."""
    path = index_path(examples_path)
    if path.stat().st_size == 0:
        return np.empty(0, dtype=OFFSET)
    return np.memmap(path, dtype=OFFSET, mode="r")
