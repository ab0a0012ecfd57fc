"""Facts about each example of a version, kept as columns beside its examples.

They tell which examples a filter finds without reading the examples. Each is a file of
numpy's, in the folder `columns`; all of them can be made again from the examples.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from datasets.reading.alike import Alike, alike
from datasets.reading.batches import ImportBatch, Weights, read_jsonl
from datasets.stored.files import PART_MARK, open_index
from jobs.trainer.contract.runfolder import sync_path

FOLDER = "columns"
PATTERNS = "patterns.json"
ARRAYS = ("characters", "pattern", "first_equal")
# Examples with weights that nearly nobody else has would fill the memory.
MAX_PATTERNS = 65_536
# The number of the pattern of all weights that came after so many.
OTHER = MAX_PATTERNS


@dataclass(frozen=True)
class Columns:
    """Facts about examples; each array has one number for every example.

    `characters` counts the characters of all its segments. `pattern` is the place of
    its loss weights in `patterns`, or OTHER. `first_equal` is the number of the first
    example that has the same texts and weights, which is its own if none is before it.
    """

    characters: np.ndarray
    pattern: np.ndarray
    first_equal: np.ndarray
    patterns: list[Weights]

    @property
    def num_repeated(self) -> int:
        """How many examples are there already, further up."""
        return int((self.first_equal != np.arange(len(self.first_equal))).sum())


class ColumnsWriter:
    """Gathers the columns while a version's examples are written."""

    def __init__(self, examples_path: Path) -> None:
        self.path = examples_path
        for leftover in self.path.parent.glob(f"{FOLDER}{PART_MARK}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        self._patterns: dict[Weights, int] = {}
        self._characters: list[np.ndarray] = []
        self._pattern: list[np.ndarray] = []
        self._hashes: list[np.ndarray] = []

    def add(self, batch: ImportBatch, groups: Iterable[Alike]) -> None:
        """Takes in the examples of a batch."""
        characters = np.zeros(len(batch), np.uint32)
        pattern = np.zeros(len(batch), np.uint32)
        for group in groups:
            number = self._number_of(group.weights)
            total = sum(group.characters, start=np.zeros(len(group.at), np.uint32))
            if len(group.at) == len(batch):
                characters, pattern[:] = total, number
            else:
                characters[group.at] = total
                pattern[group.at] = number
        self._characters.append(characters)
        self._pattern.append(pattern)
        lines = batch.content().split(b"\n")[:-1]
        self._hashes.append(np.fromiter(map(hash, lines), np.int64, len(lines)))

    def publish(self) -> Columns:
        """Writes the columns of examples that are on disk already, and returns them."""
        columns = Columns(
            _joined(self._characters),
            _joined(self._pattern),
            _first_equal(self.path, _joined(self._hashes)),
            list(self._patterns),
        )
        part = self.path.with_name(f"{FOLDER}{PART_MARK}{secrets.token_hex(4)}")
        part.mkdir(mode=0o700)
        for name in ARRAYS:
            np.save(part / f"{name}.npy", getattr(columns, name))
        (part / PATTERNS).write_text(json.dumps(columns.patterns))
        for file in part.iterdir():
            sync_path(file)
        target = self.path.with_name(FOLDER)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(part, target)
        return columns

    def _number_of(self, weights: Weights) -> int:
        if len(self._patterns) >= MAX_PATTERNS:
            return self._patterns.get(weights, OTHER)
        return self._patterns.setdefault(weights, len(self._patterns))


def columns_of(examples_path: Path) -> Columns:
    """Returns the columns of a version, which are made first if they are missing."""
    if not examples_path.with_name(FOLDER).exists():
        _write(examples_path)
    return _read(examples_path, examples_path.stat().st_ino)


def _write(examples_path: Path) -> None:
    writer = ColumnsWriter(examples_path)
    for batch in read_jsonl(examples_path):
        writer.add(batch, alike(batch))
    writer.publish()


@lru_cache(maxsize=8)
def _read(examples_path: Path, _file: int) -> Columns:
    folder = examples_path.with_name(FOLDER)
    patterns = json.loads((folder / PATTERNS).read_bytes())
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    return Columns(**arrays, patterns=[tuple(weights) for weights in patterns])


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, np.uint32)


def _first_equal(examples_path: Path, hashes: np.ndarray) -> np.ndarray:
    """Returns for each example the number of the first one with the same line.

    Lines with the same hash are compared, since a hash says only that they may be.
    """
    first = np.arange(len(hashes), dtype=np.uint32)
    order = np.argsort(hashes, kind="stable")
    same = hashes[order[1:]] == hashes[order[:-1]]
    if not same.any():
        return first
    size = examples_path.stat().st_size
    starts = np.append(open_index(examples_path).astype(np.int64), size)
    lines = np.memmap(examples_path, np.uint8, mode="r")

    def line(number: int) -> bytes:
        return lines[starts[number] : starts[number + 1]].tobytes()

    found: dict[bytes, int] = {}
    for at in np.flatnonzero(same):
        if at == 0 or not same[at - 1]:
            found = {line(order[at]): order[at]}
        again = order[at + 1]
        first[again] = found.setdefault(line(again), again)
    return first
